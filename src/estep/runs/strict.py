"""Reading files that may be hostile: strict JSON and safetensors, with every limit checked before memory is taken.

Each function raises ValueError (or OSError) with the reason; the caller adds the path. Nothing here executes a file's
content, follows a link, or lets a file choose a name to open.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
import safetensors.numpy

MAX_JSON = 16 << 20
MAX_DEPTH = 32
MAX_ITEMS = 600_000
MAX_HEADER = 1 << 20
MAX_DIGITS = 40
"""Enough for the 128-bit integers of NumPy's generators."""

# A quoted text, or one that never ends: then the rest, so that the search stays linear on any input.
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
TENSOR_NAME = re.compile(r"[\x21-\x7e]{1,500}")
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

DTYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {
        **{"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4"},
        **{"U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8"},
    }.items()
}
_TAGS = {dtype: tag for tag, dtype in DTYPES.items()}

Arrays = dict[str, np.ndarray[Any, Any]]
Leaf = tuple[tuple[int, ...], np.dtype[Any]]
"""Shape and dtype of one array."""


def plain(value: Any) -> Any:
    """The value in JSON's own types: NumPy numbers become Python's, and a float that is not finite becomes null."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def dump(value: Any, indent: int | None = None) -> bytes:
    """Strict JSON in ASCII. Raises TypeError for a value that JSON cannot hold."""
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(plain(value), allow_nan=False, indent=indent, separators=separators).encode()


def parse(data: bytes, limit: int = MAX_JSON) -> Any:
    """The value of a strict JSON text: no NaN, no duplicate key, bounded size, depth, item count and integers."""
    if len(data) > limit:
        raise ValueError(f"its JSON has {len(data)} bytes, more than the limit of {limit}")
    bare = _TEXT.sub(b"", data)
    brackets = np.frombuffer(bare.translate(None, _NOT_BRACKETS), np.uint8)
    steps = np.where((brackets == ord("[")) | (brackets == ord("{")), 1, -1).astype(np.int32)
    if steps.size and steps.cumsum().max() > MAX_DEPTH:
        raise ValueError(f"its JSON is nested deeper than {MAX_DEPTH}")
    if bare.count(b",") > MAX_ITEMS:
        raise ValueError(f"its JSON has more than {MAX_ITEMS} items")
    value = json.loads(
        data.decode("utf-8"),
        object_pairs_hook=_object,
        parse_int=_integer,
        parse_float=_real,
        parse_constant=_constant,
    )
    if re.search(rb"\\u[dD][89a-fA-F]", data):
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # an unpaired surrogate is a UnicodeEncodeError
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("its JSON has a duplicate key")
    return found


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError("its JSON has an integer that is too large")
    return int(text)


def _real(text: str) -> float:
    value = float(text) if len(text) <= MAX_DIGITS else math.inf
    if not math.isfinite(value):
        raise ValueError("its JSON has a number that is not finite or too long")
    return value


def _constant(text: str) -> NoReturn:
    raise ValueError(f"its JSON has {text}, which is not a number")


def open_dir(path: str | os.PathLike[str], at: int | None = None) -> int:
    """A descriptor of a directory that is no link and that only its owner may write to."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    return _owned(descriptor, str(path))


def open_file(name: str, at: int) -> int:
    """A descriptor of a regular file, opened by name inside a directory; no link, FIFO or device passes."""
    if not FILE_NAME.fullmatch(name):
        raise ValueError(f"the file name {name!a} is not allowed")
    # Without O_NONBLOCK a FIFO would wait for a writer for ever.
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{name} is not a regular file")
    return _owned(descriptor, name)


def _owned(descriptor: int, name: str) -> int:
    if os.fstat(descriptor).st_mode & 0o022:
        os.close(descriptor)
        raise ValueError(f"{name!a} is writable by other users (chmod -R go-w makes it private)")
    return descriptor


def read_small(name: str, at: int, limit: int = MAX_JSON) -> bytes:
    """All bytes of a file of at most `limit` bytes."""
    descriptor = open_file(name, at)
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{name} has more than {limit} bytes")
    return data


def read_hashed(name: str, at: int, size: int, sha256: str) -> bytearray:
    """All bytes of a file whose size and hash are known; they are the very bytes that were hashed."""
    with os.fdopen(open_file(name, at), "rb") as file:
        _check_size(name, file.fileno(), size)
        data = bytearray(size)
        if file.readinto(data) != size or hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError(f"{name} does not have the recorded SHA-256")
    return data


def check_hash(name: str, at: int, size: int, sha256: str) -> None:
    """Like read_hashed, in little memory."""
    with os.fdopen(open_file(name, at), "rb") as file:
        _check_size(name, file.fileno(), size)
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise ValueError(f"{name} does not have the recorded SHA-256")


def _check_size(name: str, descriptor: int, size: int) -> None:
    actual = os.fstat(descriptor).st_size
    if actual != size:
        raise ValueError(f"{name} has {actual} bytes where {size} are recorded")


def read_layout(name: str, at: int, size: int) -> dict[str, Leaf]:
    """What a safetensors file of `size` bytes declares, from its header alone, checked against that size."""
    with os.fdopen(open_file(name, at), "rb") as file:
        _check_size(name, file.fileno(), size)
        return {tensor: leaf for tensor, leaf, _ in _entries(name, file.read(MAX_HEADER + 8), size)}


def tensors(name: str, data: bytearray) -> Arrays:
    """The arrays of a safetensors file: views of `data`, so nothing is copied."""
    found = {}
    for tensor, (shape, dtype), start in _entries(name, memoryview(data)[: MAX_HEADER + 8].tobytes(), len(data)):
        found[tensor] = np.frombuffer(data, dtype, math.prod(shape), start).reshape(shape)
    return found


def _entries(name: str, head: bytes, size: int) -> Iterator[tuple[str, Leaf, int]]:
    """Name, leaf and byte offset of each tensor; they must fill the file exactly, without overlap or hole."""
    length = int.from_bytes(head[:8], "little")
    if len(head) < 8 or length > MAX_HEADER or 8 + length > size:
        raise ValueError(f"{name} has a header of {length} bytes, which does not fit")
    header = parse(head[8 : 8 + length], MAX_HEADER)
    if not isinstance(header, dict):
        raise ValueError(f"the header of {name} is not a table")
    end = 0
    for tensor, (start, stop), leaf in sorted((_entry(*item) for item in header.items()), key=lambda item: item[1]):
        if start != end or stop - start != math.prod(leaf[0]) * leaf[1].itemsize:
            raise ValueError(f"{name} declares bytes {start} to {stop} for {tensor}, which do not fit")
        yield tensor, leaf, 8 + length + start
        end = stop
    if 8 + length + end != size:
        raise ValueError(f"{name} declares {end} bytes of data and holds {size - 8 - length}")


def _entry(tensor: str, entry: Any) -> tuple[str, tuple[int, int], Leaf]:
    if not TENSOR_NAME.fullmatch(tensor):
        raise ValueError(f"the tensor name {tensor!a} is not allowed")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the header entry of {tensor} is malformed")
    offsets = entry["data_offsets"]
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(map(is_count, offsets))):
        raise ValueError(f"the offsets of {tensor} are malformed")
    return tensor, (offsets[0], offsets[1]), leaf_of(tensor, entry)


def leaf_of(tensor: str, entry: Mapping[str, Any]) -> Leaf:
    """The shape and dtype that an entry declares, both from an allow-list."""
    shape, tag = entry["shape"], entry["dtype"]
    if not (isinstance(shape, list) and len(shape) <= 16 and all(map(is_count, shape))):
        raise ValueError(f"the shape of {tensor} is malformed")
    if math.prod(max(size, 1) for size in shape) > 1 << 48:
        raise ValueError(f"the shape of {tensor} is too large")
    if not isinstance(tag, str) or tag not in DTYPES:
        raise ValueError(f"the dtype of {tensor} is not allowed")
    return tuple(shape), DTYPES[tag]


def tag(tensor: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> dict[str, Any]:
    """The entry that leaf_of reads. Raises TypeError for a name or dtype that a checkpoint cannot hold."""
    if dtype not in _TAGS or not TENSOR_NAME.fullmatch(tensor):
        raise TypeError(f"{tensor!a} of dtype {dtype} cannot be stored in a checkpoint")
    return {"dtype": _TAGS[dtype], "shape": list(shape)}


def encode(arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """The bytes of a safetensors file."""
    return bytes(safetensors.numpy.save(dict(arrays)))


def is_count(value: Any) -> bool:
    """A whole number at or above 0; True and False are not numbers here."""
    return type(value) is int and 0 <= value <= 1 << 62
