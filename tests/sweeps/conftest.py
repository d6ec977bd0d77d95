from __future__ import annotations

import json
from typing import Any

import fake_sweep
import pytest
from commandline import command

from estep.sweeps import lines, status


class Place:
    """The folder of a sweep whose runs are trained by fake_trainer.py."""

    def __init__(self, path: Any) -> None:
        self.path = path

    def sweep(self, *words: str) -> Any:
        """Run `estep sweep` in this process."""
        return command("sweep", *words)

    def plan(self, *words: str) -> Any:
        """Make or extend the plan of a sweep of sac, and run it."""
        return self.sweep("sac", "--env", "Pendulum-v1", *words, "--out", str(self.path), "--json")

    @property
    def states(self) -> dict[str, int]:
        """How many runs are in which state."""
        found = json.loads(self.sweep("status", str(self.path), "--json").out)["counts"]
        return {name: count for name, count in found.items() if count}

    def starts(self) -> int:
        """How often a process began to train."""
        return sum(len(path.read_text().split()) for path in self.path.glob("runs/*/starts"))

    def ends(self) -> dict[str, Any]:
        """The result of every run."""
        return {path.name: status.of(self.path, path.name).eval_mean for path in self.path.glob("runs/*")}


@pytest.fixture
def place(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lines, "PROGRAM", fake_sweep.PROGRAM)
    return Place(tmp_path / "sweep")
