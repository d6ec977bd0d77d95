"""Removes what is no longer needed: old checkpoints, temporary files of dead processes; and tells a held lock."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from estep.errors import StorageFailure
from estep.runs import storage


@contextmanager
def folder_for_a_while() -> Iterator[Path]:
    """A new folder of the system's temporary files, which is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="estep-") as place:
        yield Path(place)


def retire(path: Path) -> None:
    """Remove a published directory. It is renamed first, so that a crash never leaves half of it under its name.

    The new name is synced, or the loss of power could undo it and keep what was removed inside.
    """
    doomed = storage.temporary_name(path.parent)
    storage.rename(path, doomed)
    storage.sync_dir(path.parent)
    storage.remove_tree(doomed)


def reap(directory: Path) -> None:
    """Remove the temporary files in a directory whose processes have died. Raises StorageFailure."""
    if not directory.is_dir():
        return
    try:
        found = sorted(directory.glob(storage.TEMPORARY + "*"))
    except OSError as error:  # such as no descriptor being left
        what = f"Could not read {directory}: {error.strerror}."
        raise StorageFailure(what, "Close other files, or raise `ulimit -n`. Then resume the run.") from error
    for path in found:
        if _abandoned(path):
            storage.remove_tree(path)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file, without taking it from one that wants it for more than a moment."""
    try:
        return not _can_lock(path, fcntl.LOCK_SH)
    except OSError:
        return False


def _abandoned(path: Path) -> bool:
    """Whether no process holds the lock on a temporary file."""
    try:
        return _can_lock(path, fcntl.LOCK_EX)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # a link or a device, which estep never makes


def _can_lock(path: Path, kind: int) -> bool:
    """Whether a lock of this kind can be had, which is given back at once. Raises OSError if there is no such file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
