"""What runs the processes of a sweep: this machine, SLURM or Ray."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from estep.sweeps.lines import Task


class Engine(Protocol):
    """Starts tasks and tells which of them have ended. What became of their runs is in the run folders."""

    keeps_running: bool
    """Whether its processes go on when the sweep's own process is stopped."""

    def submit(self, tasks: Sequence[Task]) -> Collection[str]:
        """Take tasks, as many as fit; returns the ids of the runs that it took."""

    def poll(self) -> Collection[str]:
        """The ids of the runs whose processes have ended since the last call, in whatever way."""

    def cancel(self) -> None:
        """Ask all processes to save their runs and to stop. They are polled until they have ended."""
