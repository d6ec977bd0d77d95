"""The only module that opens files for writing. Every failure of the disk leaves it as StorageFailure, naming the path.

The order is always: write, sync the file, sync its directory, rename, sync the parent; only then is a name trusted.
Temporary names start with `.tmp-` and hold an flock while their writer lives, so the dead ones can be told and reaped.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from estep.errors import StorageFailure

TEMPORARY = ".tmp-"
PIECE = 1 << 20
"""Bytes handed to one write call, so that a kill can fall between two of them."""

hook: Callable[[str, Path], None] | None = None
"""Called before each operation with its name (write, fsync, rename, mkdir, link, unlink): a test can make it fail."""

# A file system that cannot link says one of these; then the bytes are copied. Any other error is a real failure.
_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

_locks: set[int] = set()


def _drop_inherited_locks() -> None:
    # A forked worker shares the lock's open file: were it kept, the lock would outlive the process that took it.
    for descriptor in _locks:
        os.close(descriptor)
    _locks.clear()


os.register_at_fork(after_in_child=_drop_inherited_locks)


@contextlib.contextmanager
def _operation(name: str, path: Path) -> Iterator[None]:
    """Run one operation on the disk, turning its OSError into a StorageFailure that names the path."""
    try:
        if hook is not None:
            hook(name, path)
        yield
    except OSError as error:
        raise StorageFailure(
            f"Could not {name} {path}: {error.strerror or error}.",
            "Check the free space, the permissions and the health of that disk, then resume the run.",
        ) from error


def make_dir(path: Path) -> None:
    """Make a directory and its parents, mode 0700, unless it is there. Raises StorageFailure."""
    if not path.is_dir() and not claim_dir(path) and not path.is_dir():
        raise StorageFailure(f"Could not mkdir {path}: a file has that name.", "Move that file away.")


def claim_dir(path: Path) -> bool:
    """Make a new directory, mode 0700, and sync its parent; False where the name was taken. Raises StorageFailure.

    It is how a fresh name is claimed without a race.
    """
    make_dir(path.parent)
    with _operation("mkdir", path):
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return False
    sync_dir(path.parent)
    return True


def sync_dir(path: Path) -> None:
    """Make the names in a directory durable. Raises StorageFailure."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    with _operation("fsync", path):
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, path: Path, data: bytes) -> None:
    view = memoryview(data)
    while True:
        with _operation("write", path):
            view = view[os.write(descriptor, view[:PIECE]) :]
        if not view:
            return


@contextlib.contextmanager
def _created(path: Path) -> Iterator[int]:
    """A new file, mode 0600, flocked until it is closed."""
    with _operation("write", path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _flock(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def write_new(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet, mode 0600, not synced (publish_dir does that). Raises StorageFailure."""
    with _created(path) as descriptor:
        _write_all(descriptor, path, data)


def write_atomic(path: Path, data: bytes, beside: Path | None = None) -> None:
    """Replace a file's content so that a reader, or a crash at any instant, sees all of the old or all of the new.

    The temporary file lies in the same directory, or in `beside` (on the same disk). Raises StorageFailure.
    """
    temporary = temporary_name(path.parent if beside is None else beside)
    try:
        with _created(temporary) as descriptor:
            _write_all(descriptor, temporary, data)
            with _operation("fsync", temporary):
                os.fsync(descriptor)
            with _operation("rename", path):
                os.rename(temporary, path)
    except StorageFailure:
        discard(temporary)
        raise
    sync_dir(path.parent)


def temporary_name(directory: Path) -> Path:
    """A fresh temporary name in a directory; nothing is created."""
    return directory / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}"


@contextlib.contextmanager
def temporary_dir(directory: Path) -> Iterator[Path]:
    """A temporary directory to fill and publish; removed when the block fails, reaped later when the process dies."""
    path = temporary_name(directory)
    try:
        make_dir(path)
        with _operation("mkdir", path):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except StorageFailure:
        discard(path)
        raise
    try:
        _flock(descriptor)
        yield path
    except Exception:
        discard(path)
        raise
    finally:
        os.close(descriptor)


def publish_dir(temporary: Path, final: Path) -> None:
    """Sync every file and directory of `temporary`, rename it to `final`, sync the parent. Raises StorageFailure."""
    for folder, _, files in os.walk(temporary, topdown=False):
        for name in sorted(files):
            _sync(Path(folder, name), os.O_RDONLY | os.O_NOFOLLOW)
        sync_dir(Path(folder))
    rename(temporary, final)
    sync_dir(final.parent)


def rename(old: Path, new: Path) -> None:
    """Rename, not yet synced. Raises StorageFailure."""
    with _operation("rename", new):
        os.rename(old, new)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` hold the bytes of `source`, as a hard link where the disk can. Raises StorageFailure."""
    with _operation("link", target):
        try:
            os.link(source, target, follow_symlinks=False)
            return
        except OSError as error:
            if error.errno not in _CANNOT_LINK:
                raise
        data = source.read_bytes()
    write_new(target, data)


def remove_tree(path: Path) -> None:
    """Remove a directory or a file, following no link; nothing there is no error. Raises StorageFailure."""
    with _operation("unlink", path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Remove what a failed write left. A disk that refuses that too must not hide the first failure."""
    with contextlib.suppress(StorageFailure):
        remove_tree(path)


def retire(path: Path) -> None:
    """Remove a published directory so that a crash half-way leaves a temporary name, never half of it."""
    doomed = temporary_name(path.parent)
    rename(path, doomed)
    remove_tree(doomed)


def reap(directory: Path) -> None:
    """Remove the temporary names in a directory whose writers are dead. Raises StorageFailure."""
    if not directory.is_dir():
        return
    for path in sorted(directory.glob(TEMPORARY + "*")):
        if _abandoned(path):
            remove_tree(path)


def _abandoned(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # a link or a device: no writer of ours makes those
    try:
        return _flock(descriptor)
    finally:
        os.close(descriptor)


def append_line(descriptor: int, path: Path, line: bytes) -> None:
    """Append one whole line; a write that fails half-way is taken back. Raises StorageFailure."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    try:
        _write_all(descriptor, path, line + b"\n")
    except StorageFailure:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, end)
        raise


def open_append(path: Path) -> int:
    """A descriptor that appends to a file, made with mode 0600 if need be; a torn last line is dropped first."""
    with _operation("write", path):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        end = path.read_bytes().rfind(b"\n") + 1
        if end != os.fstat(descriptor).st_size:
            os.ftruncate(descriptor, end)
    return descriptor


def sync_file(descriptor: int, path: Path) -> None:
    """Make what was appended durable. Raises StorageFailure."""
    with _operation("fsync", path):
        os.fsync(descriptor)


def try_lock(path: Path, content: bytes) -> int | None:
    """Take the lock file at once and write its holder into it; None if another holds it. Raises StorageFailure.

    The kernel frees it when the process dies, however it dies; `close` frees it sooner.
    """
    with _operation("write", path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, content, 0)
    _locks.add(descriptor)
    return descriptor


def close(descriptor: int) -> None:
    """Close a descriptor; one that try_lock gave is thereby freed."""
    _locks.discard(descriptor)
    os.close(descriptor)
