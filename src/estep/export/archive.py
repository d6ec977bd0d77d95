"""Policies in one file: a zip that is written in memory, and read as if a stranger had written it.

Reading keeps the rules of `estep.runs.reading`: known names alone, neither links nor paths that lead out, and sizes
that are checked before anything is unpacked.
"""

from __future__ import annotations

import io
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from estep.errors import RejectedInput, UsageError
from estep.runs import leftovers, reading, storage

SUFFIX = ".zip"
MOST_BYTES = 256 << 20
"""Of the file, and of everything in it."""
MOST_FILES = 40
MOST_RATIO = 100
"""The most bytes that one byte of the file may become."""
SPARE = 1 << 20
"""Bytes to which the ratio does not apply: short texts are packed well."""
_NAME = re.compile(
    r"README\.md|report\.html|run\.json|config\.json|config\.diff\.json|eval\.csv|best|latest|"
    r"checkpoints/step_[0-9]{1,18}/(manifest\.json|[A-Za-z0-9][A-Za-z0-9_-]{0,60}\.safetensors)"
)
_END, _END_OF_LARGE = b"PK\x05\x06", b"PK\x06\x07"
_FIX = "Use a file as estep publish wrote it, or ask for it again."


def npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The bytes of an .npz file with these arrays."""
    memory = io.BytesIO()
    named: dict[str, Any] = dict(arrays)
    np.savez_compressed(memory, **named)
    return memory.getvalue()


def pack(files: Mapping[str, bytes]) -> bytes:
    """The bytes of a zip with these files. Equal files give equal bytes."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            if not _NAME.fullmatch(name):
                raise UsageError(f"{name!a} cannot be published.", "Leave it out.")
            archive.writestr(zipfile.ZipInfo(name), files[name], zipfile.ZIP_DEFLATED)
    return memory.getvalue()


def is_file(path: Path) -> bool:
    """Whether a path names a published file and not a run folder."""
    return path.suffix == SUFFIX and not path.is_dir()


@contextmanager
def folder_of(path: Path) -> Iterator[Path]:
    """A run folder as it is, or what a published file holds, in a folder that is removed at the end.

    Raises:
        RejectedInput: the file is not as estep writes it.
    """
    if not is_file(path):
        yield path
        return
    try:
        files = unpacked(reading.read_path(path, MOST_BYTES))
    except (OSError, ValueError, zipfile.BadZipFile, RuntimeError, EOFError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise RejectedInput(f"The file {path} was rejected: {what}.", _FIX) from error
    with leftovers.folder_for_a_while() as place:
        for name, data in files.items():
            storage.make_dir((place / name).parent)
            storage.write_new(place / name, data)
        yield place


def unpacked(data: bytes) -> dict[str, bytes]:
    """The files of a zip, in memory.

    Raises:
        ValueError: it has other files than `estep publish` writes, or is larger inside than it may be.
        zipfile.BadZipFile: it is damaged.
    """
    end = data.rfind(_END, len(data) - 70_000 if len(data) > 70_000 else 0)
    if end < 0 or len(data) < end + 22:
        raise ValueError("it is not a zip")
    # Before the library makes an object of each entry: how many there are, and the large form has no use here.
    count, size = (
        int.from_bytes(data[end + 10 : end + 12], "little"),
        int.from_bytes(data[end + 12 : end + 16], "little"),
    )
    if count > MOST_FILES or size > MOST_FILES * 1000 or data[max(0, end - 20) : end].startswith(_END_OF_LARGE):
        raise ValueError(f"it has more than {MOST_FILES} files")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        _check(entries, len(data))
        return {entry.filename: _read(archive, entry) for entry in entries}


def _check(entries: list[zipfile.ZipInfo], packed: int) -> None:
    """Check everything that the list of files says."""
    names = [entry.filename for entry in entries]
    if len({name.casefold() for name in names}) != len(names):
        raise ValueError("it has a file twice")
    if "run.json" not in names:
        raise ValueError("it has no run.json")
    for entry in entries:
        mode = entry.external_attr >> 16
        if not _NAME.fullmatch(entry.filename):
            raise ValueError(f"it has the file {entry.filename!a}, which estep publish does not write")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise ValueError(f"{entry.filename} is not a regular file")
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{entry.filename} is packed in a way that estep publish does not use")
    total = sum(entry.file_size for entry in entries)
    if total > MOST_BYTES or total > MOST_RATIO * packed + SPARE:
        raise ValueError(f"its files would have {total:,} bytes")


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """One file, which is no longer than the list says."""
    with archive.open(entry) as file:
        data = file.read(entry.file_size + 1)
    if len(data) != entry.file_size:
        raise ValueError(f"{entry.filename} has another size than its entry says")
    return data
