"""The manifest of a checkpoint: a list of its files, with a hash of each file and of the manifest.

The reader does not trust the files. Each function that reads raises ValueError (or OSError) with what is wrong, and
the caller adds the path.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from estep.runs import reading, storage, strict
from estep.settings import renamed

FORMAT = 1
"""Version of the format. A larger number is from a newer estep and is refused."""
NAME = "manifest.json"
SUFFIX = ".safetensors"
REPLAY = "replay"
_CHUNK = re.compile(r"replay/chunk_[0-9]{4,9}\.safetensors")
_SELF = re.compile(rb'\{"self":"([0-9a-f]{64})",')
_SHA256 = re.compile(r"[0-9a-f]{64}")
T = TypeVar("T")
_KEYS = {"self", "format", "sequence", "step", "meta", "replay", "files"}


@dataclass(frozen=True)
class Entry:
    """One file of a checkpoint: its hash, its size in bytes, and the shapes and dtypes of its tensors."""

    sha256: str
    size: int
    leaves: Mapping[str, strict.Leaf]

    def row(self) -> dict[str, Any]:
        """The entry as JSON values."""
        leaves = {name: strict.tag(name, *leaf) for name, leaf in self.leaves.items()}
        return {"sha256": self.sha256, "size": self.size, "tensors": leaves}


@dataclass(frozen=True)
class Manifest:
    """The content of a manifest."""

    sequence: int
    """Number of the checkpoint in its run. The order of checkpoints depends on it and never on times."""
    step: int
    """Environment steps."""
    meta: Mapping[str, Any]
    replay: Mapping[str, Any] | None
    """Number of chunks and the counters, or None if no replay was saved."""
    files: Mapping[str, Entry]


def chunk_name(number: int) -> str:
    """The file name of a replay chunk."""
    return f"replay/chunk_{number:04d}{SUFFIX}"


def encode(manifest: Manifest) -> bytes:
    """The bytes of a manifest. They begin with the hash of the other bytes. Raises TypeError if meta is not JSON."""
    table = {
        **{"format": FORMAT, "sequence": manifest.sequence, "step": manifest.step},
        **{"meta": manifest.meta, "replay": manifest.replay},
        "files": {name: entry.row() for name, entry in manifest.files.items()},
    }
    rest = strict.dump(table)[1:]
    return b'{"self":"' + hashlib.sha256(rest).hexdigest().encode() + b'",' + rest


def decode(data: bytes) -> Manifest:
    """Read a manifest and check every field."""
    match = _SELF.match(data)
    if not match or hashlib.sha256(data[match.end() :]).hexdigest().encode() != match[1]:
        raise ValueError("its manifest does not have the recorded hash")
    table = strict.parse(data)
    version = table.get("format")
    counts = strict.is_count(version)  # True equals 1 but is not a version
    if counts and version > FORMAT:
        raise ValueError(f"it has the checkpoint format {version}, but this version of estep reads only {FORMAT}")
    sound = set(table) == _KEYS and counts and version == FORMAT and isinstance(table["meta"], dict)
    if not (
        sound and isinstance(table["files"], dict) and all(map(strict.is_count, (table["sequence"], table["step"])))
    ):
        raise ValueError("its manifest is malformed")
    files = {name: _entry(name, row) for name, row in table["files"].items()}
    if len({name.casefold() for name in files}) != len(files):
        raise ValueError("two of its file names differ only in case")
    manifest = Manifest(table["sequence"], table["step"], table["meta"], table["replay"], files)
    if {name for name in files if name.startswith(REPLAY + "/")} != _replay_names(manifest.replay):
        raise ValueError("its replay files are not the files in its manifest")
    return manifest


def _replay_names(replay: Any) -> set[str]:
    if replay is None:
        return set()
    if not (
        isinstance(replay, dict) and set(replay) == {"chunks", "counters"} and isinstance(replay["counters"], dict)
    ):
        raise ValueError("its manifest's replay is malformed")
    if not strict.is_count(replay["chunks"]) or replay["chunks"] > 1_000_000:
        raise ValueError("its manifest's number of replay chunks is malformed")
    return set(map(chunk_name, range(replay["chunks"])))


def _entry(name: str, row: Any) -> Entry:
    plain = name.endswith(SUFFIX) and strict.FILE_NAME.fullmatch(name)
    if not (plain or _CHUNK.fullmatch(name)):
        raise ValueError(f"its manifest names the file {name!a}, which is not allowed")
    sound = isinstance(row, dict) and set(row) == {"sha256", "size", "tensors"} and isinstance(row["tensors"], dict)
    if not (sound and strict.is_count(row["size"]) and isinstance(row["sha256"], str)):
        raise ValueError(f"its manifest's entry of {name} is malformed")
    if not _SHA256.fullmatch(row["sha256"]):
        raise ValueError(f"its manifest's hash of {name} is malformed")
    leaves = {}
    for tensor, entry in row["tensors"].items():
        if not strict.TENSOR_NAME.fullmatch(tensor):
            raise ValueError(f"the tensor name {tensor!a} is not allowed")
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape"}:
            raise ValueError(f"its manifest's entry of {tensor} is malformed")
        leaves[tensor] = strict.leaf_of(tensor, entry)
    return Entry(row["sha256"], row["size"], leaves)


@dataclass(frozen=True)
class Opened:
    """An open checkpoint with a valid manifest. File descriptors keep others from replacing its folders."""

    manifest: Manifest
    directory: int
    replay: int | None

    def locate(self, name: str) -> tuple[str, int]:
        """The name of a file and the descriptor of its directory."""
        folder, _, base = name.rpartition("/")
        if not folder:
            return base, self.directory
        if self.replay is None:
            raise ValueError("its replay folder is missing")
        return base, self.replay

    def check(self, deep: bool) -> None:
        """Check that the files are exactly those of the manifest. The hashes of chunks are checked only if `deep`."""
        present = _listing(self.directory, "") | (set() if self.replay is None else _listing(self.replay, REPLAY + "/"))
        for name in sorted(present ^ set(self.manifest.files)):
            raise ValueError(f"{name!a} is {'not in its manifest' if name in present else 'missing'}")
        for name, entry in self.manifest.files.items():
            if reading.read_layout(*self.locate(name), entry.size) != entry.leaves:
                raise ValueError(f"the tensors of {name} are not those in its manifest")
        for name, entry in self.manifest.files.items():
            if deep or not _CHUNK.fullmatch(name):
                reading.check_hash(*self.locate(name), entry.size, entry.sha256)

    def arrays(self, name: str) -> strict.Arrays:
        """The arrays of one file, from the same bytes whose hash is checked."""
        entry = self.manifest.files[name]
        base, directory = self.locate(name)
        arrays = strict.tensors(base, reading.read_hashed(base, directory, entry.size, entry.sha256))
        return {tensor: arrays[tensor] for tensor in entry.leaves}


def _listing(directory: int, prefix: str) -> set[str]:
    return {prefix + name for name in os.listdir(directory)} - {NAME, REPLAY}


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open a checkpoint and read its manifest. No link is followed."""
    with contextlib.ExitStack() as stack:
        directory = reading.open_dir(path)
        stack.callback(os.close, directory)
        manifest = decode(reading.read_small(NAME, directory))
        replay = None
        if REPLAY in os.listdir(directory):
            if manifest.replay is None:
                raise ValueError("it has a replay folder that is not in its manifest")
            replay = reading.open_dir(REPLAY, directory)
            stack.callback(os.close, replay)
        yield Opened(manifest, directory, replay)


def read(path: Path) -> Manifest:
    """The manifest of a checkpoint. Its other files are not checked."""
    with opened(path) as checkpoint:
        return checkpoint.manifest


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Entry:
    """Write a new safetensors file. Raises StorageFailure, or TypeError if an array cannot be stored."""
    ordered = {name: _little_endian(array) for name, array in arrays.items()}
    for name, array in ordered.items():
        strict.tag(name, array.shape, array.dtype)
    data = strict.encode(ordered)
    storage.write_new(path, data)
    leaves = {name: (array.shape, array.dtype) for name, array in ordered.items()}
    return Entry(hashlib.sha256(data).hexdigest(), len(data), leaves)


def _little_endian(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # ascontiguousarray gives a scalar an axis, which the reshape removes.
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)


def check_leaves(manifest: Manifest, expected: Mapping[str, Mapping[str, tuple[tuple[int, ...], Any]]]) -> None:
    """Raise ValueError for the first leaf that is missing, unknown, or of the wrong shape or dtype."""
    for file, leaves in expected.items():
        if file + SUFFIX not in manifest.files:
            raise ValueError(f"the file {file}{SUFFIX} is missing")
        held = rename_leaves(manifest.files[file + SUFFIX].leaves)
        for name in sorted(set(leaves) ^ set(held)):
            raise ValueError(
                f"the leaf {file}/{name} is {'missing' if name in leaves else 'not part of this algorithm'}"
            )
        for name, (shape, dtype) in leaves.items():
            if held[name] != (tuple(shape), np.dtype(dtype)):
                raise ValueError(
                    f"the leaf {file}/{name} is {held[name][1]}{list(held[name][0])}, but this algorithm needs "
                    f"{np.dtype(dtype)}{list(shape)}"
                )


def rename_leaves(leaves: Mapping[str, T]) -> dict[str, T]:
    """The leaves of a checkpoint by the names of this version."""
    return {renamed.leaf(name): leaf for name, leaf in leaves.items()}
