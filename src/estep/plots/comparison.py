"""Runs beside each other as a page: the curves of each environment, their ends, and how each two of them differ."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from estep.instruments.interval import Interval, difference, middle
from estep.plots import labels
from estep.plots.learning_curves import Point, Seeds
from estep.report.curves import short
from estep.report.frame import drawing, frame, table
from estep.runs import storage

NAME = "compare.html"
FEW = 5
"""With fewer seeds the page says that the intervals are wide."""


class Ends(NamedTuple):
    """The seeds of one curve at its end."""

    name: str
    returns: Sequence[float]
    """The last return of each seed, all after the same number of steps."""
    areas: Sequence[float]
    """The mean return of each seed over the steps of the curve: its area divided by them."""


def write(found: Sequence[Point], curves: Sequence[Seeds], out: Path) -> Path:
    """Write compare.html into a folder that exists; returns its path.

    Args:
        found: the evaluations.
        curves: what `learning_curves.curves` made of them.
        out: the folder.
    """
    envs = list(dict.fromkeys(point.env for point in found))
    charts: dict[str, Any] = {}
    sections = []
    for i, env in enumerate(envs):
        rows = [row for row in curves if row.env == env]
        names = labels.labels((row.algorithm, row.settings) for row in rows)
        series = [
            _series(name, [row for row in rows if (row.algorithm, row.settings) == of]) for of, name in names.items()
        ]
        ends = ends_of([point for point in found if point.env == env], rows, names)
        charts[f"env{i}"] = series
        sections.append((f"env{i}", env, drawing(series) + _tables(ends)))
    page = frame({"title": " and ".join(envs), "status": "comparison", "charts": charts}, sections)
    storage.write_atomic(out / NAME, page.encode())
    return out / NAME


def _series(name: str, rows: Sequence[Seeds]) -> dict[str, Any]:
    """One curve with its interval."""
    ends = [
        [short(value) if math.isfinite(value) else None for value in side]
        for side in zip(*((r.low, r.high) for r in rows), strict=True)
    ]
    middles = [row.middle if math.isfinite(row.middle) else None for row in rows]
    return {"name": f"{name}, n = {rows[-1].seeds}", "curve": [[row.env_steps for row in rows], middles], "band": ends}


def ends_of(found: Sequence[Point], rows: Sequence[Seeds], names: Mapping[tuple[str, str], str]) -> list[Ends]:
    """The seeds of each curve of one environment at its end. A seed that stopped early keeps its last return.

    Args:
        found: the evaluations.
        rows: the curves.
        names: the label of each curve by algorithm and settings.
    """
    keys: dict[Hashable, str] = {(of[0], labels.recorded(of[1]).key): name for of, name in names.items()}
    last = {names[row.algorithm, row.settings]: row.env_steps for row in rows}
    seeds: dict[str, dict[int, list[Point]]] = {name: {} for name in names.values()}
    for point in sorted(found, key=lambda point: point.env_steps):
        name = keys[point.algorithm, labels.recorded(point.settings).key]
        if point.env_steps <= last[name]:
            seeds[name].setdefault(point.seed, []).append(point)
    return [
        Ends(name, [points[-1].mean for points in of.values()], [area(points, last[name]) for points in of.values()])
        for name, of in seeds.items()
    ]


def area(points: Sequence[Point], last: int) -> float:
    """The area below a curve from its first evaluation to the step `last`, divided by these steps."""
    steps, means = [*(point.env_steps for point in points), last], [*(point.mean for point in points), points[-1].mean]
    return float(np.trapezoid(means, steps) / (last - steps[0])) if last > steps[0] else means[0]


def chance(a: Sequence[float], b: Sequence[float]) -> float:
    """The probability that a seed of `a` is above one of `b`; equal ones count half (Agarwal et al. 2021).

    Example:
        >>> chance([1.0, 2.0], [0.0, 2.0])
        0.625
    """
    return float(np.mean([(x > y) + (x == y) / 2 for x in a for y in b]))


def sentence(a: str, b: str, gap: Interval) -> str:
    """What a difference of two curves says.

    Example:
        >>> sentence("sac", "mpo", Interval(3.0, 1.0, 5.0))
        'sac has a higher return than mpo.'
        >>> sentence("sac", "mpo", Interval(3.0, -1.0, 7.0))
        'No difference of sac and mpo is shown: the interval contains 0.'
    """
    if not math.isfinite(gap.low):
        return f"{a} and {b} cannot be told apart with one seed: there is no interval."
    if gap.low > 0 or gap.high < 0:
        first, second = (a, b) if gap.low > 0 else (b, a)
        return f"{first} has a higher return than {second}."
    return f"No difference of {a} and {b} is shown: the interval contains 0."


def _tables(ends: Sequence[Ends]) -> str:
    """The ends of the curves, and their differences in pairs."""
    head = ("curve", "seeds", "return at the end", "median", "mean return over all steps")
    rows = [
        (
            one.name,
            str(len(one.returns)),
            _text(middle(one.returns)),
            f"{np.median(one.returns):.5g}",
            _text(middle(one.areas)),
        )
        for one in ends
    ]
    pairs = [
        (
            sentence(a.name, b.name, gap := difference(a.returns, b.returns)),
            _text(gap),
            f"{chance(a.returns, b.returns):.2f}",
        )
        for a, b in itertools.combinations(ends, 2)
    ]
    few = min(len(one.returns) for one in ends) < FEW
    note = f"<p>A curve has fewer than {FEW} seeds: its interval is wide, and may be wrong for skewed returns.</p>"
    two = (
        table(pairs, ("two curves", "difference [95 %]", "probability that a seed of the first is above"))
        if pairs
        else ""
    )
    return f"{table(rows, head)}{note if few else ''}{two}"


def _text(found: Interval) -> str:
    """An interval as text."""
    if not math.isfinite(found.low):
        return f"{found.mean:.5g}"
    return f"{found.mean:.5g} [{found.low:.5g}, {found.high:.5g}]"
