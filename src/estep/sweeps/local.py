"""Runs as processes of this machine: one a core, pinned to it, with one thread each."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from estep.data.memory import SHARE, memory_limit
from estep.errors import STOPPED
from estep.runs import leftovers
from estep.runs.folder import LOCK, holder
from estep.runs.provenance import usable_cores
from estep.sweeps import plan, process, status
from estep.sweeps.lines import Task

FIRST = 1 << 30
"""Bytes that a run is expected to take before one of its shape has ended."""
PATIENCE = 600.0
"""Seconds that the other runs of a shape wait for the first one to compile."""


class Started(NamedTuple):
    """A run that has a process: one of this sweep, or one that an earlier sweep has left."""

    task: Task
    process: subprocess.Popen[bytes] | None
    shape: tuple[Any, ...]
    at: float


class Local:
    """An engine of `jobs` processes: without `jobs`, one for each core that this process may use."""

    keeps_running = False

    def __init__(self, jobs: int | None = None) -> None:
        self._jobs = jobs or usable_cores()
        self._active: dict[str, Started] = {}
        self._peaks: dict[tuple[Any, ...], int] = {}
        self._compiled: set[tuple[Any, ...]] = set()

    def submit(self, tasks: Sequence[Task]) -> Collection[str]:
        """Start tasks in their order, as far as cores and memory are free and their programs are compiled."""
        taken: list[str] = []
        compiling = {one.shape for one in self._active.values() if not self._has_compiled(one)}
        for task in tasks if len(self._active) < self._jobs else ():
            shape = plan.shape(task.run)
            if shape in compiling:
                continue
            limit = memory_limit() if self._active else None
            if limit is not None and self._peaks.get(shape, FIRST) > SHARE * limit:
                break
            own = None if leftovers.is_held(task.folder / LOCK) else process.start(task)
            self._active[task.run.id] = Started(task, own, shape, time.monotonic())
            taken.append(task.run.id)
            compiling |= {shape} - self._compiled
            if len(self._active) >= self._jobs:
                break
        return taken

    def _has_compiled(self, one: Started) -> bool:
        if one.shape not in self._compiled and (
            status.updates(one.task.folder) or time.monotonic() > one.at + PATIENCE
        ):
            self._compiled.add(one.shape)
        return one.shape in self._compiled

    def poll(self) -> Collection[str]:
        """The runs whose processes have ended. The memory that each took is remembered."""
        ended = [name for name, one in self._active.items() if self._has_ended(one)]
        for name in ended:
            del self._active[name]
        return ended

    def _has_ended(self, one: Started) -> bool:
        if one.process is None:
            return not leftovers.is_held(one.task.folder / LOCK)
        pid, code, usage = os.wait4(one.process.pid, os.WNOHANG)
        if pid:
            one.process.returncode = os.waitstatus_to_exitcode(code)
            self._peaks[one.shape] = max(self._peaks.get(one.shape, 0), usage.ru_maxrss * 1024)
            self._compiled |= {one.shape} if one.process.returncode in (0, STOPPED) else set()
        return bool(pid)

    def cancel(self) -> None:
        """Send SIGTERM to every process."""
        for one in self._active.values():
            with contextlib.suppress(OSError, KeyError):
                pid = one.process.pid if one.process is not None else holder(one.task.folder)["pid"]
                os.kill(pid, signal.SIGTERM)
