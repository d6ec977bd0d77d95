"""Runs beside each other: their evaluations as one CSV, and their learning curves as one figure for each environment.

`estep compare OUT RUN ...` writes OUT/evaluations.csv, OUT/curves.csv and OUT/curves_ENV.png, .svg. Runs with the same
settings, apart from those of `labels.IGNORED_FIELDS`, share a curve: the interquartile mean over seeds (of fewer than
four, the mean), with a 95 % bootstrap interval from three seeds on (Agarwal et al. 2021, arXiv:2108.13264), or from the
lowest to the highest of two.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from scipy import stats

from estep.plots import labels
from estep.plots.curves import save, style
from estep.runs import tables
from estep.runs.folder import RUN, safe_name

EVALUATIONS = "evaluations.csv"
LEGEND_LINE = 0.17
"""Height of a line of the legend, in inches: the axes keep their height, however many curves there are."""
LEGEND_WIDTH = 90
"""Characters in a line of the legend."""
SPREAD = 4
"""Where the last curve is so many times longer than the first, the axis of steps is logarithmic."""


class Point(NamedTuple):
    """One evaluation of one run."""

    env: str
    algorithm: str
    settings: str
    """All settings of the run as JSON; see `labels`."""
    seed: int
    env_steps: int
    updates: int
    mean: float
    std: float
    episodes: int


class Seeds(NamedTuple):
    """The seeds of one curve at one number of steps."""

    env: str
    algorithm: str
    settings: str
    """Those that its runs have in common."""
    env_steps: int
    seeds: int
    iqm: float
    low: float
    high: float


def points(source: Path) -> list[Point]:
    """The evaluations of a run folder, or those in an evaluations.csv that `write` made or in its folder.

    Raises:
        RejectedInput: it is none of these.
    """
    if source.suffix == ".csv":
        return labels.read(source, Point)
    if not (source / RUN).is_file() and (source / EVALUATIONS).is_file():
        return labels.read(source / EVALUATIONS, Point)
    return labels.read(source / "eval.csv", Point, labels.about_run(source))


def write(found: Sequence[Point], out: Path) -> list[Path]:
    """The CSVs and a figure for each environment, in a folder that exists; returns the files."""
    rows = curves(found)
    files = [
        tables.write(out / EVALUATIONS, Point._fields, found),
        tables.write(out / "curves.csv", Seeds._fields, rows),
    ]
    for env in dict.fromkeys(point.env for point in found):
        files += [Path(file) for file in draw([row for row in rows if row.env == env], out).values()]
    return files


def curves(found: Sequence[Point]) -> list[Seeds]:
    """Every curve, point by point."""
    groups: dict[tuple[str, str, Hashable, int], dict[int, float]] = {}
    settings: dict[Hashable, str] = {}
    for point in sorted(found, key=lambda point: point.env_steps):
        key = labels.recorded(point.settings).key
        settings.setdefault(key, labels.shared(point.settings))
        groups.setdefault((point.env, point.algorithm, key, point.env_steps), {})[point.seed] = point.mean
    return [
        Seeds(env, algorithm, settings[key], steps, len(seeds), *_middle(list(seeds.values())))
        for (env, algorithm, key, steps), seeds in groups.items()
    ]


def _iqm(values: npt.NDArray[np.float64], axis: int) -> Any:
    return stats.trim_mean(values, 0.25, axis=axis)


def _middle(values: Sequence[float]) -> tuple[float, float, float]:
    """The interquartile mean over seeds and its interval."""
    middle = float(_iqm(np.asarray(values), 0))
    if len(values) < 3 or len(set(values)) == 1:
        return middle, min(values), max(values)
    random = np.random.default_rng(0)  # the same interval each time the same curves are drawn
    ends = stats.bootstrap((values,), _iqm, method="percentile", rng=random).confidence_interval
    return middle, float(ends.low), float(ends.high)


def draw(rows: Sequence[Seeds], out: Path) -> dict[str, str]:
    """The learning curves of one environment."""
    figure, axes = plt.subplots(layout="constrained")
    ends, lines = [], 0
    names = labels.labels((row.algorithm, row.settings) for row in rows)
    for i, (of_curve, name) in enumerate(names.items()):
        curve = [row for row in rows if (row.algorithm, row.settings) == of_curve]
        steps, seeds = [row.env_steps for row in curve], max(row.seeds for row in curve)
        (line,) = axes.plot(steps, [row.iqm for row in curve], style(i), marker="o", markersize=3)
        label = labels.wrap(f"{name}, {seeds} seed{'s' * (seeds > 1)}", LEGEND_WIDTH)
        line.set_label("\n".join(label))
        lines += len(label)
        ends.append(steps[-1])
        low, high = [row.low for row in curve], [row.high for row in curve]
        axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(xlabel="environment steps", ylabel="return of the deterministic policy", title=rows[0].env)
    if max(ends) > SPREAD * min(ends):
        axes.set_xscale("log")
    figure.legend(loc="outside lower center", fontsize="x-small", frameon=False, alignment="left")
    figure.set_size_inches(6.0, 3.6 + LEGEND_LINE * lines)
    return save(figure, out, f"curves_{safe_name(rows[0].env)}")
