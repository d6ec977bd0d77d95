"""Stops a sweep from another process: its own process first, then runs that it left behind, and jobs of a cluster."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from estep.errors import EstepError, RejectedInput
from estep.runs import leftovers
from estep.runs.folder import LOCK, holder
from estep.sweeps import slurm
from estep.sweeps.lines import folder_of
from estep.sweeps.plan import Run

PATIENCE = 90.0
"""Seconds to wait until all have saved and ended: a run may take 20."""


def cancel(sweep: Path, runs: Sequence[Run]) -> None:
    """Ask everything that writes the sweep to save and to stop, and wait for it.

    Raises:
        RejectedInput: a process is on another host, or does not end.
    """
    slurm.cancel_jobs(sweep)
    _end([sweep])
    _end([folder_of(sweep, run.id) for run in runs])


def _end(folders: Sequence[Path]) -> None:
    """Send SIGTERM to the holders of these folders, and wait until they are free."""
    held = [folder for folder in folders if leftovers.is_held(folder / LOCK)]
    for folder in held:
        _ask(folder)
    end = time.monotonic() + PATIENCE
    while left := [folder for folder in held if leftovers.is_held(folder / LOCK)]:
        if time.monotonic() > end:
            raise _refused(left[0], "does not end")
        time.sleep(0.1)


def _ask(folder: Path) -> None:
    found = holder(folder)
    if found.get("host") != socket.gethostname():
        raise _refused(folder, f"is on the host {found.get('host', '?')}")
    try:
        os.kill(found["pid"], signal.SIGTERM)
    except ProcessLookupError:  # it has ended in between
        return
    except OSError as error:
        raise _refused(folder, f"cannot be asked: {error.strerror}") from error


def _refused(folder: Path, why: str) -> EstepError:
    pid = holder(folder).get("pid", "?")
    return RejectedInput(f"Process {pid}, which writes {folder}, {why}.", "Stop it there, then cancel again.")
