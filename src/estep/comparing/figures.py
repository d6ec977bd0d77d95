"""The figures of a comparison, as PNG and SVG. Every label has its number of seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from estep.comparing.comparison import Comparison
from estep.comparing.summary import OVER, Pair, Place, Row, Section
from estep.plots import learning_curves
from estep.plots.curves import BLUE, GREY, save, style
from estep.plots.learning_curves import LEGEND_LINE, LEGEND_WIDTH
from estep.plots.wording import wrap
from estep.runs.folder import safe_name

PAIRS = 30
"""Of which the probabilities of improvement are drawn; pairs.csv has all."""


def draw(found: Comparison, out: Path) -> list[Path]:
    """Draw a comparison into a folder that exists; returns the files.

    Args:
        found: the comparison.
        out: the folder.
    """
    files: dict[str, str] = {}
    for task in found.tasks:
        names = {(rows[0].algorithm, rows[0].settings): name for name, rows in task.drawn.items()}
        files |= learning_curves.draw([row for rows in task.drawn.values() for row in rows], out, names)
    for section in found.whole:
        name = "tasks" if section.name == OVER else safe_name(section.name)
        if section.profile:
            files |= _lines(
                section.profile, out, f"profile_{name}", (section.unit, f"share of seeds above the {section.unit}")
            )
        if section.efficiency:
            files |= _lines(
                section.efficiency, out, f"efficiency_{name}", ("environment steps", "interquartile mean score")
            )
        if section.rows and section.name == OVER:
            files |= _statistics(section, out, f"statistics_{name}")
        if section.pairs:
            files |= _chances(section.pairs[:PAIRS], out, f"improvement_chance_{name}")
    return [Path(file) for file in files.values()]


def _lines(places: Sequence[Place], out: Path, name: str, axes_labels: tuple[str, str]) -> dict[str, str]:
    """A line with its interval for each curve."""
    figure, axes = plt.subplots(layout="constrained")
    lines = 0
    for i, (curve, of) in enumerate(itertools.groupby(places, key=lambda place: place.curve)):
        points = list(of)
        text = wrap(f"{curve}, n = {points[0].seeds}", LEGEND_WIDTH)
        lines += len(text)
        xs = [point.x for point in points]
        (line,) = axes.plot(xs, [point.value for point in points], style(i))
        line.set_label("\n".join(text))
        low, high = [point.low for point in points], [point.high for point in points]
        axes.fill_between(xs, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set(xlabel=axes_labels[0], ylabel=axes_labels[1])
    figure.legend(loc="outside lower center", fontsize="x-small", frameon=False, alignment="left")
    figure.set_size_inches(6.0, 3.6 + LEGEND_LINE * lines)
    return save(figure, out, name)


def _statistics(section: Section, out: Path, name: str) -> dict[str, str]:
    """A panel for each statistic, with a point and its interval for each curve."""
    kinds = list(dict.fromkeys(row.statistic for row in section.rows))
    figure, panels = plt.subplots(1, len(kinds), squeeze=False, sharey=True, layout="constrained")
    for axes, kind in zip(panels[0], kinds, strict=True):
        rows = [row for row in section.rows if row.statistic == kind]
        _points(axes, [(row.value, row.low, row.high) for row in rows], [_name(row) for row in rows])
        axes.set_title(kind, fontsize="small")
    figure.supxlabel(f"{section.unit}, with its 95 % interval", fontsize="small")
    figure.set_size_inches(2 + 2 * len(kinds), 1.2 + 0.35 * len(section.rows) / len(kinds))
    return save(figure, out, name)


def _chances(pairs: Sequence[Pair], out: Path, name: str) -> dict[str, str]:
    """The probability of improvement of each pair."""
    figure, axes = plt.subplots(layout="constrained")
    names = [f"{p.first}, n = {p.first_seeds}, above {p.second}, n = {p.second_seeds}" for p in pairs]
    _points(axes, [(pair.chance, pair.chance_low, pair.chance_high) for pair in pairs], names)
    axes.axvline(0.5, color=GREY, linewidth=1)
    axes.set(xlim=(-0.02, 1.02), xlabel="probability of improvement, with its 95 % interval")
    figure.set_size_inches(7.0, 1.2 + 0.5 * len(pairs))
    return save(figure, out, name)


def _points(axes: Any, found: Sequence[tuple[float, float, float]], names: Sequence[str]) -> None:
    """A line for each interval, with its name at the axis. A number without an interval is a point."""
    for at, (value, low, high) in enumerate(found):
        axes.plot([value], [-at], color=BLUE, marker="o", markersize=4)
        if math.isfinite(low):
            axes.plot([low, high], [-at, -at], color=BLUE, linewidth=1.5)
    texts = ["\n".join(wrap(name, LEGEND_WIDTH // 2)) for name in names]
    axes.set_yticks([-at for at in range(len(texts))], texts, fontsize="x-small", parse_math=False)


def _name(row: Row) -> str:
    return f"{row.curve}, n = {row.seeds}"
