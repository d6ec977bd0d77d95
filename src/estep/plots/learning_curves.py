"""Runs beside each other: their evaluations as one CSV, and their learning curves as one figure for each environment.

Runs with the same settings, apart from those of `labels.IGNORED_FIELDS`, share a curve: the middle of the seeds with
its 95 % interval, as `instruments.interval.middle` has them.

Every point of a curve has all seeds: a curve ends at the last step that all of them have. A run that ended because it
reached the return of --stop-at is carried on with its last value, since to leave out the best seeds would be wrong. So
it would be to leave out the seeds that failed: from there on they are below all others.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from estep.envs.tasks.sources import ALL
from estep.errors import RejectedInput
from estep.instruments.interval import MANY, middle
from estep.plots import failures, labels
from estep.plots.curves import save, style
from estep.plots.wording import wrap
from estep.runs import tables
from estep.runs.folder import MEMBERS, RUN, safe_name

EVALUATIONS = "evaluations.csv"
OF_TASK = ": "
"""Stands between the name of a run's environments and that of one of its tasks."""
LEGEND_LINE = 0.17
"""Height of a line of the legend, in inches: the axes keep their height, however many curves there are."""
LEGEND_WIDTH = 90
"""Characters in a line of the legend."""
MARGIN = 0.06
"""Of the range of all seeds, above and below it."""
BAND = 3
"""From so many seeds on a figure has their interval: that of two is right but so wide that it hides all else."""
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


class Line(NamedTuple):
    """A line of eval.csv."""

    env_steps: int
    updates: int
    mean: float
    std: float
    episodes: int
    task: str
    """`all` for the mean over the tasks, and with one environment."""


class Seeds(NamedTuple):
    """The seeds of one curve at one number of steps."""

    env: str
    algorithm: str
    settings: str
    """Those that its runs have in common."""
    env_steps: int
    seeds: int
    """The same at every step."""
    carried: int
    """Seeds that had reached the return of --stop-at before, whose last value is carried on."""
    longest: int
    """The last step that any seed has: the curve is cut where some seed ends before."""
    lowest: float
    """Of the seeds."""
    highest: float
    middle: float
    """Their mean; from ten seeds on their interquartile mean."""
    low: float
    """Lower limit of the 95 % interval of the middle; NaN for a single seed."""
    high: float
    failed: int = 0
    """Seeds whose evaluation here, or whose last one before, is no number."""


def points(source: Path) -> list[Point]:
    """The evaluations of a run folder, or those in an evaluations.csv that `write` made or in its folder. Of a run with
    several tasks they are the means over the tasks, then each task under a name of its own. A population is one run for
    each seed.

    Raises:
        RejectedInput: it is none of these.
    """
    if source.suffix == ".csv":
        return labels.read(source.resolve(), Point)
    if not (source / RUN).is_file() and (source / EVALUATIONS).is_file():
        return labels.read(source / EVALUATIONS, Point)
    ended = failures.failed(source)
    return [
        point
        for number, about, path in seeds_of(source)
        for point in _lines(path / "eval.csv", about, ended.get(number))
    ]


class OneSeed(NamedTuple):
    """One seed of a run, which has several if it is a population."""

    number: int
    """From 0."""
    about: dict[str, str]
    """The label of the seed by column."""
    path: Path
    """The folder of what was recorded and measured of it."""


def seeds_of(source: Path) -> list[OneSeed]:
    """The seeds of a run folder; of the folder of one seed in a population, that one.

    Raises:
        RejectedInput: it is neither.
    """
    alone = source.parent.name == MEMBERS
    run = source.parent.parent if alone else source
    about = labels.about_run(run)
    paths = [source] if alone else sorted((run / MEMBERS).glob("[0-9]*"))
    first = int(about["seed"])
    found = [OneSeed(int(path.name), {**about, "seed": str(first + int(path.name))}, path) for path in paths]
    return found or [OneSeed(0, about, source)]


def _lines(path: Path, about: Mapping[str, str], failed: int | None) -> list[Point]:
    """The evaluations of one eval.csv. `about` has the other columns, and `failed` is the number of steps at which the
    seed failed, or None. Raises RejectedInput."""
    lines = labels.read(path, Line, {**about, "task": ALL}) if failed is None or path.is_file() else []
    names = {line.task: about["env"] if line.task == ALL else f"{about['env']}{OF_TASK}{line.task}" for line in lines}
    run = about["algorithm"], about["settings"], int(about["seed"])
    found = [Point(names[one.task], *run, one.env_steps, one.updates, one.mean, one.std, one.episodes) for one in lines]
    if failed is None:
        return found
    last = max([failed, *(line.env_steps + 1 for line in lines)])
    nothing = float("nan")
    return [*found, *(Point(name, *run, last, 0, nothing, nothing, 0) for name in names.values() or [about["env"]])]


def write_tables(found: Sequence[Point], rows: Sequence[Seeds], out: Path) -> list[Path]:
    """evaluations.csv and curves.csv, in a folder that exists; returns the files.

    Args:
        found: the evaluations.
        rows: what `curves` made of them.
        out: the folder.
    """
    evaluations = tables.write(out / EVALUATIONS, Point._fields, found)
    return [evaluations, tables.write(out / "curves.csv", Seeds._fields, rows)]


def curves(found: Sequence[Point]) -> list[Seeds]:
    """Every curve, point by point.

    Raises:
        RejectedInput: the seeds of a curve have no step in common.
    """
    groups: dict[tuple[str, str, Hashable], list[Point]] = {}
    for point in sorted(found, key=lambda point: point.env_steps):
        groups.setdefault((point.env, point.algorithm, labels.settings_key(point.settings)), []).append(point)
    return [row for group in groups.values() for row in _curve(group)]


def _curve(group: Sequence[Point]) -> list[Seeds]:
    """One curve. `group` is in the order of steps."""
    runs: dict[int, dict[int, float]] = {}
    for point in group:
        runs.setdefault(point.seed, {})[point.env_steps] = point.mean
    last = {point.seed: point for point in group}
    reached = {seed for seed, point in last.items() if labels.reached_goal(point.settings, point.env_steps, point.mean)}
    over = reached | {seed for seed, point in last.items() if not math.isfinite(point.mean)}

    def value(seed: int, step: int) -> float | None:
        end = last[seed]
        return end.mean if seed in over and step > end.env_steps else runs[seed].get(step)

    one, rows = group[0], []
    longest = max((point.env_steps for point in group if math.isfinite(point.mean)), default=group[-1].env_steps)
    settings = labels.shared(one.settings)
    for step in dict.fromkeys(point.env_steps for point in group):
        values = [known for seed in runs if (known := value(seed, step)) is not None]
        if len(values) == len(runs):
            carried = sum(step > last[seed].env_steps for seed in reached)
            about = one.env, one.algorithm, settings, step, len(runs), carried, longest
            rows.append(Seeds(*about, *_middle(values)))
    if not rows:
        raise RejectedInput(
            f"The seeds {', '.join(map(str, runs))} of {one.algorithm} on {one.env} were never evaluated after the "
            "same number of steps.",
            "Compare runs with the same --eval-every, or leave out the run that is too short.",
        )
    return rows


def _middle(values: Sequence[float]) -> tuple[float, float, float, float, float, int]:
    """The lowest and the highest of some seeds, their middle with its interval, and how many of them failed."""
    finite = [value for value in values if math.isfinite(value)] or [math.nan]
    count = sum(not math.isfinite(value) for value in values)
    with np.errstate(invalid="ignore"):
        found = failures.known(middle(failures.below_all(values)))
    return min(finite), max(finite), found[0], found[1], found[2], count


def draw(rows: Sequence[Seeds], out: Path, names: Mapping[labels.Curve, str] | None = None) -> dict[str, str]:
    """The learning curves of one environment.

    Args:
        rows: their points.
        out: the folder of the figure.
        names: the label of each curve by algorithm and settings. None names all settings in which they differ.
    """
    figure, axes = plt.subplots(layout="constrained")
    ends, lines = [], 0
    names = names or labels.labels((row.algorithm, row.settings) for row in rows)
    for i, (of_curve, name) in enumerate(names.items()):
        curve = [row for row in rows if (row.algorithm, row.settings) == of_curve]
        steps = [row.env_steps for row in curve]
        (line,) = axes.plot(steps, [row.middle for row in curve], style(i), marker="o", markersize=3)
        label = wrap(f"{name}, {seeds_label(curve[-1])}", LEGEND_WIDTH)
        line.set_label("\n".join(label))
        lines += len(label)
        ends.append(steps[-1])
        if curve[-1].seeds >= BAND:
            low, high = [row.low for row in curve], [row.high for row in curve]
            axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set(xlabel="environment steps", ylabel="return of the deterministic policy")
    axes.set_title(rows[0].env, parse_math=False)
    axes.set_ylim(*_limits(rows))
    if max(ends) > SPREAD * min(ends):
        axes.set_xscale("log")
    title = "\n".join(_legend(rows))
    legend = {"fontsize": "x-small", "title_fontsize": "x-small", "frameon": False, "alignment": "left"}
    figure.legend(loc="outside lower center", title=title or None, **legend)
    figure.set_size_inches(6.0, 3.6 + LEGEND_LINE * (lines + len(_legend(rows))))
    return save(figure, out, f"curves_{safe_name(rows[0].env)}")


def seeds_label(last: Seeds) -> str:
    """How many seeds a curve has, and what became of those that ended early. `last` is the end of the curve.

    Example:
        >>> seeds_label(Seeds("Some-v0", "sac", "{}", 20, 5, 2, 20, 1.0, 2.0, 1.5, 1.2, 1.8))
        'n = 5, 2 stopped early and carried on'
    """
    text = f"n = {last.seeds}" + (f", {last.failed} failed" if last.failed else "")
    if last.carried:
        text += f", {last.carried} stopped early and carried on"
    return text + (f", cut at {last.env_steps:,} steps, where a seed ends" if last.longest > last.env_steps else "")


def _legend(rows: Sequence[Seeds]) -> list[str]:
    """What line and band are, in one line for each way of seeds."""
    counts = [row.seeds for row in rows]
    few, many = min(counts) < MANY, max(counts) >= MANY
    mean = f"mean of n seeds{f' < {MANY}' * many}, from n = {BAND} on with its 95 % interval"
    iqm = f"interquartile mean of n seeds{f' ≥ {MANY}' * few}, with its 95 % interval"
    return [text for text, present in ((mean, few), (iqm, many)) if present and max(counts) > 1]


def _limits(rows: Sequence[Seeds]) -> tuple[float | None, float | None]:
    """Ends of the axis of returns, with room for every seed. The frame cuts an interval that is far wider."""
    values = [value for row in rows for value in (row.lowest, row.highest) if np.isfinite(value)]
    if not values or min(values) == max(values):
        return None, None
    margin = MARGIN * (max(values) - min(values))
    return min(values) - margin, max(values) + margin
