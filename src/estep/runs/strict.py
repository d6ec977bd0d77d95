"""Parses bytes that may be hostile: strict JSON, safetensors and .npy. Limits are checked before memory is allocated.

Each function raises ValueError with what is wrong, and the caller adds the path. Nothing here executes the content of a
file, and a file cannot choose which other files are opened. `estep.runs.reading` opens them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
import safetensors.numpy

MAX_JSON = 16 << 20
MAX_DEPTH = 32
MAX_ITEMS = 270_000
"""Items and tables of a JSON text. Each takes up to 240 bytes, so that a text takes at most 64 MiB beyond its size."""
MAX_HEADER = 1 << 20
MAX_DIGITS = 40
"""Enough for the 128-bit integers of NumPy's generators."""

# A quoted string, or the rest of the input if the quote never ends, so that the search takes linear time.
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_PIECE = re.compile(rb'(?:[^"]*+"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)){1,5000}+|[^"]++', re.DOTALL)
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

NPY_HEAD = 1024
"""Bytes of a .npy file in which its header must end. That of an array has 128."""
_NPY = re.compile(
    rb"\{'descr': '([<>|][fiub][0-9]{1,2})', 'fortran_order': (True|False), 'shape': \(([0-9, ]{1,200})\), \} *\n"
)

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
    _check_items(data)
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


def _check_items(data: bytes) -> None:
    """Refuse a JSON text that would take much more memory than it is long."""
    many = f"its JSON has more than {MAX_ITEMS} items"
    if data.count(b'"') > 8 * MAX_ITEMS:  # an item has a key and a text, and a text may have quotes
        raise ValueError(many)
    items, brackets = 0, bytearray()
    for piece in _PIECE.finditer(data):  # the regular expression takes much memory for each text of a piece
        bare = _TEXT.sub(b"", piece[0])
        brackets += bare.translate(None, _NOT_BRACKETS)
        items += bare.count(b",") + bare.count(b"[") + bare.count(b"{")
        if max(items, len(brackets) // 2) > MAX_ITEMS:
            raise ValueError(many)
    marks = np.frombuffer(brackets, np.uint8)
    steps = np.where((marks == ord("[")) | (marks == ord("{")), 1, -1).astype(np.int32)
    if steps.size and steps.cumsum().max() > MAX_DEPTH:
        raise ValueError(f"its JSON is nested deeper than {MAX_DEPTH}")


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


def layout(name: str, head: bytes, size: int) -> dict[str, Leaf]:
    """Shapes and dtypes in the head of a safetensors file of `size` bytes."""
    return {tensor: leaf for tensor, leaf, _ in _entries(name, head, size)}


def tensors(name: str, data: bytes | bytearray) -> Arrays:
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


def npy(head: bytes, size: int) -> tuple[Leaf, bool, int]:
    """What the head of a .npy file of `size` bytes says: shape and dtype, whether in Fortran order, start of data."""
    start = {b"\x93NUMPY\x01\x00": 10, b"\x93NUMPY\x02\x00": 12}.get(head[:8])
    if start is None:
        raise ValueError("it is not a .npy file")
    end = start + int.from_bytes(head[8:start], "little")
    match = _NPY.fullmatch(head[start:end]) if end <= NPY_HEAD else None
    if match is None:
        raise ValueError("its header is not that of an array of numbers")
    shape = tuple(int(number) for number in match[3].decode().split(",") if number.strip())
    try:
        dtype = np.dtype(match[1].decode())
    except TypeError as error:  # such as <f5: NumPy has no number of that size
        raise ValueError(f"its dtype {match[1].decode()} is unknown") from error
    if end + math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"its header declares {dtype} of shape {list(shape)}, but it has {max(size - end, 0)} bytes")
    return (shape, dtype), match[2] == b"True", end
