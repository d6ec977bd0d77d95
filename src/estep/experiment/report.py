"""Who is told how a run goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Reporter(Protocol):
    """Takes notes and numbers as they come; nothing it does reaches back into the run."""

    def note(self, text: str) -> None:
        """One line: where the run is, what it found, what it waits for."""

    def progress(self, record: Mapping[str, float]) -> None:
        """Where training stands, at most once a block: env_steps, steps, updates, rates, the latest metrics."""


class Silent:
    """Tells nobody."""

    def note(self, text: str) -> None:
        """Drop a line."""

    def progress(self, record: Mapping[str, float]) -> None:
        """Drop a record."""
