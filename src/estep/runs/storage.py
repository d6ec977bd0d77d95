"""The only module that opens files for writing. A failure of the disk becomes a StorageFailure that names the path.

The order is always: write, sync the file, sync its directory, rename, sync the parent. A file counts only after that.
Temporary names start with `.tmp-`. A process holds an flock on them, so that those of dead processes are recognised.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from estep.errors import StorageFailure
from estep.runs import reading

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


def make_inner_dir(path: Path) -> None:
    """As `make_dir` for a directory of a run folder. A link is refused: it may lead out of the folder."""
    if path.is_symlink():
        raise StorageFailure(f"Could not mkdir {path}: it is a link, and none is followed.", "Remove that link.")
    make_dir(path)


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
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = None
    while descriptor is None:
        with _operation("write", path):
            descriptor = _locked(os.open(path, flags, 0o600), path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int, path: Path) -> int | None:
    """The descriptor with its lock; None, and closed, if `leftovers.reap` removed the path before it was locked."""
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            return descriptor
    os.close(descriptor)
    return None


def write_new(path: Path, data: bytes) -> None:
    """Write a new file, mode 0600, without a sync (publish_dir syncs it). Raises StorageFailure."""
    with _created(path) as descriptor:
        _write_all(descriptor, path, data)


def write_atomic(path: Path, data: bytes | Iterable[bytes], beside: Path | None = None) -> None:
    """Replace a file's content. A reader, also after a crash, sees the whole old or the whole new content.

    Args:
        path: the file. If it is a link, the link is replaced.
        data: its new content, or the parts of it.
        beside: directory of the temporary file, on the same disk; None takes the file's directory.

    Raises:
        StorageFailure: the disk fails.
    """
    temporary = temporary_name(path.parent if beside is None else beside)
    try:
        with _created(temporary) as descriptor:
            for piece in (data,) if isinstance(data, bytes) else data:
                _write_all(descriptor, temporary, piece)
            with _operation("fsync", temporary):
                os.fsync(descriptor)
            with _operation("rename", path):
                os.rename(temporary, path)
    except Exception:  # also one of whoever makes the parts
        discard(temporary)
        raise
    sync_dir(path.parent)


def temporary_name(directory: Path) -> Path:
    """A new temporary name in a directory. Nothing is created."""
    return directory / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}"


@contextlib.contextmanager
def temporary_dir(directory: Path) -> Iterator[Path]:
    """A temporary directory to fill and publish. It is removed if the block fails; `reap` removes it after a crash."""
    path, descriptor = temporary_name(directory), None
    try:
        while descriptor is None:
            make_dir(path)
            with _operation("mkdir", path), contextlib.suppress(FileNotFoundError):
                descriptor = _locked(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path)
    except StorageFailure:
        discard(path)
        raise
    try:
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


def append(descriptor: int, path: Path, data: bytes) -> None:
    """Append to a file. If the write fails, the file gets its old length. Raises StorageFailure."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    try:
        _write_all(descriptor, path, data)
    except StorageFailure:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, end)
        raise


def open_new(path: Path) -> int:
    """A descriptor that appends to a new file, mode 0600. Raises StorageFailure."""
    with _operation("write", path):
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def open_append(path: Path) -> int:
    """A descriptor that appends to a regular file. A new file has mode 0600; an incomplete last line is removed."""
    with _operation("write", path):
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            end = reading.end_of_lines(descriptor)
            if end != os.fstat(descriptor).st_size:
                os.ftruncate(descriptor, end)
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


def sync_file(descriptor: int, path: Path) -> None:
    """Sync what was appended to the disk. Raises StorageFailure, also if the path is another file by now or none."""
    with _operation("fsync", path):
        os.fsync(descriptor)
        if not os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            raise OSError(errno.ESTALE, "it was moved or replaced")


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
