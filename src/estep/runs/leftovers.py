"""Removes what is no longer needed: old checkpoints, and the temporary files of processes that died."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from estep.runs import storage


def retire(path: Path) -> None:
    """Remove a published directory. It is renamed first, so that a crash never leaves half of it under its name."""
    doomed = storage.temporary_name(path.parent)
    storage.rename(path, doomed)
    storage.remove_tree(doomed)


def reap(directory: Path) -> None:
    """Remove the temporary files in a directory whose processes have died. Raises StorageFailure."""
    if not directory.is_dir():
        return
    for path in sorted(directory.glob(storage.TEMPORARY + "*")):
        if _abandoned(path):
            storage.remove_tree(path)


def _abandoned(path: Path) -> bool:
    """Whether no process holds the lock on a temporary file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # a link or a device, which estep never makes
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
