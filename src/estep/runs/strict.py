"""Reads files that may be hostile: strict JSON and safetensors. Limits are checked before memory is allocated.

Each function raises ValueError (or OSError) with what is wrong, and the caller adds the path. Nothing here executes the
content of a file or follows a link, and a file cannot choose which other files are opened.
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

# A quoted string, or the rest of the input if the quote never ends, so that the search takes linear time.
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
    """The value in types of JSON. NumPy numbers become Python numbers, and a float that is not finite becomes None."""
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
    """Strict JSON in ASCII. Raises TypeError for a value that JSON does not have."""
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(plain(value), allow_nan=False, indent=indent, separators=separators).encode()


def parse(data: bytes, limit: int = MAX_JSON) -> Any:
    """The value of a JSON text without NaN and duplicate keys, with limits on size, depth, items and integers."""
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
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("its JSON has a duplicate key")
    return table


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
    """A descriptor of a directory. It must not be a link, and only its owner may write to it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    return _owned(descriptor, str(path))


def open_file(name: str, at: int) -> int:
    """A descriptor of a regular file in a directory. Links, FIFOs and devices are refused."""
    if not FILE_NAME.fullmatch(name):
        raise ValueError(f"the file name {name!a} is not allowed")
    # Without O_NONBLOCK, opening a FIFO would wait for a writer without end.
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{name} is not a regular file")
    return _owned(descriptor, name)


def _owned(descriptor: int, name: str) -> int:
    if os.fstat(descriptor).st_mode & 0o022:
        os.close(descriptor)
        raise ValueError(f"{name!a} is writable by other users (make it private with chmod -R go-w)")
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
        return {tensor: leaf for tensor, leaf, _ in _entries(name, file.read(MAX_HEADER + 8), size)}


def tensors(name: str, data: bytearray) -> Arrays:
    """The arrays of a safetensors file, as views of `data` without a copy."""
    arrays = {}
    for tensor, (shape, dtype), start in _entries(name, memoryview(data)[: MAX_HEADER + 8].tobytes(), len(data)):
        arrays[tensor] = np.frombuffer(data, dtype, math.prod(shape), start).reshape(shape)
    return arrays


def _entries(name: str, head: bytes, size: int) -> Iterator[tuple[str, Leaf, int]]:
    """Name, leaf and byte offset of each tensor. Together they must fill the file without overlaps and gaps."""
    length = int.from_bytes(head[:8], "little")
    if len(head) < 8 or length > MAX_HEADER or 8 + length > size:
        raise ValueError(f"{name} has a header of {length} bytes, which is too long")
    header = parse(head[8 : 8 + length], MAX_HEADER)
    if not isinstance(header, dict):
        raise ValueError(f"the header of {name} is not a table")
    end = 0
    for tensor, (start, stop), leaf in sorted((_entry(*item) for item in header.items()), key=lambda item: item[1]):
        if start != end or stop - start != math.prod(leaf[0]) * leaf[1].itemsize:
            raise ValueError(f"{name} declares the bytes {start} to {stop} for {tensor}, which are not possible")
        yield tensor, leaf, 8 + length + start
        end = stop
    if 8 + length + end != size:
        raise ValueError(f"{name} declares {end} bytes of data, but it has {size - 8 - length}")


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
    """The shape and dtype in an entry. Only allowed dtypes and sizes pass."""
    shape, tag = entry["shape"], entry["dtype"]
    if not (isinstance(shape, list) and len(shape) <= 16 and all(map(is_count, shape))):
        raise ValueError(f"the shape of {tensor} is malformed")
    if math.prod(max(size, 1) for size in shape) > 1 << 48:
        raise ValueError(f"the shape of {tensor} is too large")
    if not isinstance(tag, str) or tag not in DTYPES:
        raise ValueError(f"the dtype of {tensor} is not allowed")
    return tuple(shape), DTYPES[tag]


def tag(tensor: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> dict[str, Any]:
    """The entry that leaf_of reads. Raises TypeError for a name or dtype that a checkpoint cannot store."""
    if dtype not in _TAGS or not TENSOR_NAME.fullmatch(tensor):
        raise TypeError(f"{tensor!a} of dtype {dtype} cannot be stored in a checkpoint")
    return {"dtype": _TAGS[dtype], "shape": list(shape)}


def encode(arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """The bytes of a safetensors file."""
    return bytes(safetensors.numpy.save(dict(arrays)))


def is_count(value: Any) -> bool:
    """Whether a value is an integer of at least 0. True and False are not integers here."""
    return type(value) is int and 0 <= value <= 1 << 62
