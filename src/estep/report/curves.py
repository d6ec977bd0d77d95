"""Long curves in few points: the least and the largest value of each bin stay, so that no peak is lost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

MOST = 1000
"""Points of a curve in a report."""
HELD = 8 * MOST
"""Points of a curve that are in memory while a file is read."""
Curve: TypeAlias = tuple[list[float], list[float | None]]
"""x and y; y is None where the number was not finite."""


def thinned(curve: Curve, most: int = MOST) -> Curve:
    """A curve in at most `most` points, its first and its last among them.

    Example:
        >>> thinned((list(range(8)), [0, 5, 0, 0, 0, 0, -5, 0]), 4)
        ([0, 1, 6, 7], [0, 5, -5, 0])
    """
    xs, ys = curve
    if len(xs) <= most:
        return curve
    inner, bins = len(xs) - 2, (most - 2) // 2
    kept = {0, len(xs) - 1}
    for i in range(bins):
        places = range(1 + inner * i // bins, 1 + inner * (i + 1) // bins)
        known = [(y, place) for place in places if (y := ys[place]) is not None]
        kept |= {min(known)[1], max(known)[1]} if known else {places[0]}
    return [xs[place] for place in sorted(kept)], [ys[place] for place in sorted(kept)]


def collect(records: Iterable[Mapping[str, Any]], x: str = "env_steps") -> dict[str, Curve]:
    """The curve of each number of some records over the number `x`. A file of any length takes little memory."""
    found: dict[str, Curve] = {}
    for record in records:
        at: Any = record.get(x)
        if not is_number(at):
            continue
        for name, value in record.items():
            if name != x and (value is None or is_number(value)):
                curve = found.setdefault(name, ([], []))
                curve[0].append(at)
                curve[1].append(value)
                if len(curve[0]) > HELD:
                    found[name] = thinned(curve, HELD // 2)
    return {name: thinned(curve) for name, curve in found.items()}


def is_number(value: Any) -> bool:
    """Whether a value of a record is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def short(value: float | None) -> float | None:
    """A number to six digits, which a reader cannot see beyond and a file need not hold."""
    return value if value is None or type(value) is int else float(f"{value:.6g}")
