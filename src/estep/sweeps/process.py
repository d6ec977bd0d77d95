"""One run as one process with one thread, pinned to the core of this machine that has the fewest such processes."""

from __future__ import annotations

import collections
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from estep.runs import leftovers, storage
from estep.runs.folder import LOCK, safe_name
from estep.sweeps import lines
from estep.sweeps.lines import Task

PATIENCE = 10.0
"""Seconds to wait until other processes of the sweep on this machine have chosen their cores."""


def start(task: Task) -> subprocess.Popen[bytes]:
    """Begin a run, or go on with it. Ctrl-C does not reach the process: it is for the sweep, which asks its runs."""
    out, err = task.open_logs()
    try:
        with _alone(task.sweep):
            process = subprocess.Popen(
                task.words(), stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                env=lines.environment(), start_new_session=True,
            )  # fmt: skip
            if hasattr(os, "sched_setaffinity"):
                with contextlib.suppress(OSError):  # it has ended
                    os.sched_setaffinity(process.pid, {_freest()})
    finally:
        os.close(out)
        os.close(err)
    return process


def execute(task: Task) -> int:
    """Train the run of a task on the node where this is called, and wait for it; returns the exit code."""
    while leftovers.is_held(task.folder / LOCK):  # by a process whose worker was lost
        time.sleep(1.0)
    child = start(task)
    try:
        return child.wait()
    except BaseException:  # Ray cancels a task by KeyboardInterrupt
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(60.0)
        raise


@contextlib.contextmanager
def _alone(sweep: Path) -> Iterator[None]:
    """Choose a core while no other process of the sweep on this machine does: two would take the same one."""
    path, end, lock = sweep / lines.LOGS / f"cores-{safe_name(socket.gethostname())}.lock", time.monotonic(), None
    while lock is None and time.monotonic() < end + PATIENCE:
        lock = storage.try_lock(path, b"")
        if lock is None:
            time.sleep(0.01)
    try:
        yield
    finally:
        if lock is not None:
            storage.close(lock)


def _freest() -> int:
    """The core that the fewest processes are pinned to, of those that this process may use."""
    pinned: collections.Counter[int] = collections.Counter()
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            cores = os.sched_getaffinity(int(name))
            pinned.update(cores if len(cores) == 1 else ())
    return min(sorted(os.sched_getaffinity(0)), key=lambda core: pinned[core])
