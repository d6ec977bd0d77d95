"""The only module that opens the files of a run folder for reading. One set of rules holds for all of them.

A file must be a regular file, which nobody but its owner may write to. Links, FIFOs and devices are refused, and no
call waits. The size is checked before memory is taken; lines are bounded in length and number. Each function raises
ValueError (or OSError) with what is wrong, and the caller adds the path.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

from estep.runs import strict
from estep.runs.strict import FILE_NAME, MAX_HEADER, MAX_JSON, NPY_HEAD, Leaf

MAX_LINE = 1 << 20
"""Bytes of a line. A line of metrics has some thousands."""
MAX_LINES = 20_000_000
PIECE = 4 << 20
"""Bytes of an array that are read at a time."""

_trusted = ContextVar("trusted", default=False)


def trust(trusted: bool) -> None:
    """From now on take files and folders that others may write to, or refuse them. It holds for the current context."""
    _trusted.set(trusted)


@contextmanager
def trusting(trusted: bool) -> Iterator[None]:
    """In this context files and folders that others may write to are taken too, if `trusted`."""
    token = _trusted.set(trusted or _trusted.get())
    try:
        yield
    finally:
        _trusted.reset(token)


def open_dir(path: str | os.PathLike[str], at: int | None = None) -> int:
    """A descriptor of a directory. It must not be a link, and only its owner may write to it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    return _owned(descriptor, str(path))


def open_file(name: str, at: int) -> int:
    """A descriptor of a regular file in a directory. Links, FIFOs and devices are refused."""
    if not FILE_NAME.fullmatch(name):
        raise ValueError(f"the file name {name!a} is not allowed")
    return _owned(_regular(name, at), name)


def open_path(path: Path) -> int:
    """As `open_file`, but others may write to the file: its folder was checked, or the user names the file."""
    return _regular(path, None)


def _regular(path: str | Path, at: int | None) -> int:
    # Without O_NONBLOCK, opening a FIFO would wait for a writer without end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{Path(path).name} is not a regular file")
    return descriptor


def _owned(descriptor: int, name: str) -> int:
    try:
        check_mode(os.fstat(descriptor).st_mode, name)
    except ValueError:
        os.close(descriptor)
        raise
    return descriptor


def check_mode(mode: int, name: str) -> None:
    """Refuse a file or directory that others may write to, unless the user insists."""
    if mode & 0o022 and not _trusted.get():
        raise ValueError(f"{name!a} is writable by other users (make it private with chmod -R go-w)")


def check_member(path: Path, directory: bool) -> None:
    """Refuse a file or directory of a run folder, if it exists, that `open_path` or `open_dir` would not take."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise ValueError(f"{path.name} is a link, and none is followed")
    if not (stat.S_ISDIR(mode) if directory else stat.S_ISREG(mode)):
        raise ValueError(f"{path.name} is not a {'directory' if directory else 'regular file'}")
    check_mode(mode, path.name)


def read_small(name: str, at: int, limit: int = MAX_JSON) -> bytes:
    """All bytes of a file of at most `limit` bytes, in a directory."""
    return _limited(open_file(name, at), name, limit)


def read_path(path: Path, limit: int) -> bytes:
    """All bytes of a file of at most `limit` bytes, as `open_path` opens it."""
    return _limited(open_path(path), path.name, limit)


def _limited(descriptor: int, name: str, limit: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        data = b"" if size > limit else file.read(limit + 1)
    if max(size, len(data)) > limit:
        raise ValueError(f"{name} has more than {limit} bytes")
    return data


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, one at a time and each with its newline. The last one may lack it, while it is written."""
    with os.fdopen(open_path(path), "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), 1):
            if len(line) > MAX_LINE:
                raise ValueError(f"line {number} has more than {MAX_LINE} bytes")
            if number > MAX_LINES:
                raise ValueError(f"it has more than {MAX_LINES} lines")
            yield line


def last_line(path: Path, most: int) -> bytes:
    """The last whole line of a file without its newline, which must be in its last `most` bytes."""
    with os.fdopen(open_path(path), "rb") as file:
        end = os.fstat(file.fileno()).st_size
        tail = os.pread(file.fileno(), most, max(end - most, 0))
    return tail[: tail.rfind(b"\n") + 1].rstrip(b"\n").rpartition(b"\n")[2]


def end_of_lines(descriptor: int) -> int:
    """Where the last whole line of a file ends, which is read from its end."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(end - MAX_LINE, 0)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def read_hashed(name: str, at: int, size: int, sha256: str) -> bytearray:
    """All bytes of a file whose size and hash are known. The hash is of exactly these bytes.

    Args:
        name: the file's name.
        at: descriptor of its directory.
        size, sha256: its recorded size in bytes and hash.

    Raises:
        ValueError: the size or the hash is another.
    """
    with os.fdopen(open_file(name, at), "rb") as file:
        _check_size(name, file.fileno(), size)
        data = bytearray(size)
        if file.readinto(data) != size or hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError(f"{name} does not have the recorded SHA-256")
    return data


def check_hash(name: str, at: int, size: int, sha256: str) -> None:
    """Check a file as `read_hashed` does, but in little memory."""
    with os.fdopen(open_file(name, at), "rb") as file:
        _check_size(name, file.fileno(), size)
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise ValueError(f"{name} does not have the recorded SHA-256")


def _check_size(name: str, descriptor: int, size: int) -> None:
    actual = os.fstat(descriptor).st_size
    if actual != size:
        raise ValueError(f"{name} has {actual} bytes, but its recorded size is {size}")


def read_layout(name: str, at: int, size: int) -> dict[str, Leaf]:
    """Shapes and dtypes in the header of a safetensors file of `size` bytes."""
    with os.fdopen(open_file(name, at), "rb") as file:
        _check_size(name, file.fileno(), size)
        return strict.layout(name, file.read(MAX_HEADER + 8), size)


def read_numbers(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The array of a .npy file as float32, [n, ...] in one row for each of n. It is read in pieces."""
    with os.fdopen(open_path(path), "rb") as file:
        (shape, dtype), fortran, start = strict.npy(file.read(NPY_HEAD), os.fstat(file.fileno()).st_size)
        if not shape or 0 in shape:
            raise ValueError("it has no rows")
        numbers, count = np.empty(math.prod(shape), np.float32), PIECE // dtype.itemsize
        file.seek(start)
        for i in range(0, len(numbers), count):
            part = np.frombuffer(file.read(count * dtype.itemsize), dtype)
            with np.errstate(over="ignore"):
                numbers[i : i + count] = part
    rows = numbers.reshape(shape[::-1]).T if fortran else numbers.reshape(shape)
    return rows.reshape(shape[0], -1)
