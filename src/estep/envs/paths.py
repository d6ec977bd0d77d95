"""Where the arrays of an observation are in nested dicts. This module does not import JAX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MISSING = object()


def find(value: Any, path: tuple[str, ...]) -> Any:
    """The value at a path of keys, or MISSING."""
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return MISSING
        value = value[key]
    return value


def nested(paths: Sequence[tuple[str, ...]], values: Sequence[Any]) -> Any:
    """The observation of these arrays: the only one, or a dict of dicts."""
    if list(paths) == [()]:
        return values[0]
    found: dict[str, Any] = {}
    for path, value in zip(paths, values, strict=True):
        inner = found
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = value
    return found
