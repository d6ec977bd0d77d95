"""Removes what is no longer needed: old checkpoints, temporary files of dead processes; and tells a held lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from estep.errors import StorageFailure
from estep.runs import storage


@contextlib.contextmanager
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
        try:
            with _lock(path, fcntl.LOCK_EX) as locked:
                if locked:  # until it is removed: its maker, who waits for the lock, then makes another one
                    storage.remove_tree(path)
        except FileNotFoundError:
            pass
        except OSError:  # a link or a socket, which estep never makes
            storage.remove_tree(path)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file, without taking it from one that wants it for more than a moment."""
    try:
        with _lock(path, fcntl.LOCK_SH) as locked:
            return not locked
    except OSError:
        return False


@contextlib.contextmanager
def _lock(path: Path, kind: int) -> Iterator[bool]:
    """Hold a lock of this kind if it can be had, and tell whether. Raises OSError if there is no such file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
