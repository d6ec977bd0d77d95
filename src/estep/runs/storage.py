"""The only module that opens files for writing. A failure of the disk becomes a StorageFailure that names the path.

The order is always: write, sync the file, sync its directory, rename, sync the parent. A file counts only after that.
Temporary names start with `.tmp-`. A process holds an flock on the temporary file that it writes, so that the files
of dead processes can be recognised and removed.
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
"""Largest number of bytes in one write call, so that a kill can happen between two calls."""

hook: Callable[[str, Path], None] | None = None
"""Called before each operation with its name (write, fsync, rename, mkdir, link, unlink). A test can make it fail."""

# A file system without hard links reports one of these errors; then the bytes are copied. Other errors are failures.
_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

_locks: set[int] = set()


def _drop_inherited_locks() -> None:
    # A forked process shares the open lock file. If it stayed open, the lock would outlive the process that took it.
    for descriptor in _locks:
        os.close(descriptor)
    _locks.clear()


os.register_at_fork(after_in_child=_drop_inherited_locks)


@contextlib.contextmanager
def _operation(name: str, path: Path) -> Iterator[None]:
    """Run one operation on the disk. An OSError becomes a StorageFailure that names the path."""
    try:
        if hook is not None:
            hook(name, path)
        yield
    except OSError as error:
        raise StorageFailure(
            f"Could not {name} {path}: {error.strerror or error}.",
            "Check the free space, the permissions and the health of that disk. Then resume the run: estep resume RUN.",
        ) from error


def make_dir(path: Path) -> None:
    """Make a directory and its parents, mode 0700, unless it exists. Raises StorageFailure."""
    if not path.is_dir() and not claim_dir(path) and not path.is_dir():
        raise StorageFailure(f"Could not mkdir {path}: a file has that name.", "Move or rename that file.")


def claim_dir(path: Path) -> bool:
    """Make a new directory, mode 0700, and sync its parent; False if the name is taken. Raises StorageFailure.

    If several processes want the same name, only one gets it.
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
    """A new file, mode 0600, with an flock until it is closed."""
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
    """Write a new file, mode 0600, without a sync (publish_dir syncs it). Raises StorageFailure."""
    with _created(path) as descriptor:
        _write_all(descriptor, path, data)


def write_atomic(path: Path, data: bytes, beside: Path | None = None) -> None:
    """Replace a file's content. A reader, also after a crash, sees the whole old or the whole new content.

    Args:
        path: the file.
        data: its new content.
        beside: directory of the temporary file, on the same disk; None takes the file's directory.

    Raises:
        StorageFailure: the disk fails.
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
    """A new temporary name in a directory. Nothing is created."""
    return directory / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}"


@contextlib.contextmanager
def temporary_dir(directory: Path) -> Iterator[Path]:
    """A temporary directory to fill and publish. It is removed if the block fails; `reap` removes it after a crash."""
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
    """Rename without a sync. Raises StorageFailure."""
    with _operation("rename", new):
        os.rename(old, new)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy if the disk has no hard links. Raises StorageFailure."""
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
    """Remove a directory or a file, if it exists. No link is followed. Raises StorageFailure."""
    with _operation("unlink", path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Remove the rest of a failed write. A second failure must not hide the first one."""
    with contextlib.suppress(StorageFailure):
        remove_tree(path)


def retire(path: Path) -> None:
    """Remove a published directory. It is renamed first, so that a crash never leaves half of it under its name."""
    doomed = temporary_name(path.parent)
    rename(path, doomed)
    remove_tree(doomed)


def reap(directory: Path) -> None:
    """Remove the temporary files in a directory whose processes have died. Raises StorageFailure."""
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
        return True  # a link or a device, which estep never makes
    try:
        return _flock(descriptor)
    finally:
        os.close(descriptor)


def append_line(descriptor: int, path: Path, line: bytes) -> None:
    """Append one whole line. If the write fails, the file gets its old length. Raises StorageFailure."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    try:
        _write_all(descriptor, path, line + b"\n")
    except StorageFailure:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, end)
        raise


def open_append(path: Path) -> int:
    """A descriptor that appends to a file. A new file has mode 0600; an incomplete last line is removed."""
    with _operation("write", path):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        end = path.read_bytes().rfind(b"\n") + 1
        if end != os.fstat(descriptor).st_size:
            os.ftruncate(descriptor, end)
    return descriptor


def sync_file(descriptor: int, path: Path) -> None:
    """Sync what was appended to the disk. Raises StorageFailure."""
    with _operation("fsync", path):
        os.fsync(descriptor)


def try_lock(path: Path, content: bytes) -> int | None:
    """Take a lock file without waiting and write `content` into it. Raises StorageFailure.

    Returns None if another process has the lock. The lock ends with `close` or with the process.
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
    """Close a descriptor. This frees a lock of try_lock."""
    _locks.discard(descriptor)
    os.close(descriptor)
