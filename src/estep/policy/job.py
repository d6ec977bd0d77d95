"""Who is told how a run goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from estep.envs.watch import leave


class Reporter(Protocol):
    """Takes notes and numbers as they come; nothing it does reaches back into the run."""

    def started(self, run_dir: Path) -> None:
        """The run's folder is there."""

    def note(self, text: str) -> None:
        """One line: where the run is, what it found, what it waits for."""

    def progress(self, record: Mapping[str, float]) -> None:
        """Where training stands, at most once a block: env_steps, steps, updates, rates, the latest metrics."""


class Silent:
    """Tells nobody."""

    def started(self, run_dir: Path) -> None:
        """Forget a folder."""

    def note(self, text: str) -> None:
        """Drop a line."""

    def progress(self, record: Mapping[str, float]) -> None:
        """Drop a record."""


class RunContext(NamedTuple):
    """What the caller of a run brings."""

    command: Sequence[str]
    report: Reporter
    stop: Callable[[], bool]
    on_hang: Callable[[str], None]


def never_stop() -> bool:
    """No stop is asked for."""
    return False


QUIET = RunContext((), Silent(), never_stop, leave)
"""A job that nobody watches."""


def explain(reason: str | None, report: Reporter) -> None:
    """Pass on why something is missing."""
    if reason:
        report.note(reason)
