"""Runs beside each other: their evaluations as one CSV, and their learning curves as one figure for each environment.

`python -m estep.plots.learning_curves OUT RUN ...` writes OUT/evaluations.csv, OUT/curves.csv and OUT/curves_ENV.png,
.svg. A RUN is a folder, or an evaluations.csv of before, so that runs can be added when their folders are gone; of a
run that several of them have, the last counts. Runs whose configurations differ in the seed alone share a curve: the
interquartile mean over seeds (of fewer than four, the mean), with a 95 % bootstrap interval from three seeds on
(Agarwal et al. 2021, arXiv:2108.13264), or from the lowest to the highest of two.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from scipy import stats

from estep.algorithms import ALGORITHMS
from estep.plots.curves import save, style
from estep.runs import tables
from estep.runs.folder import RunFolder


class Point(NamedTuple):
    """One evaluation of one run."""

    env: str
    algorithm: str
    changes: str
    """What its configuration changes from the defaults of algorithm and run, without seed, steps and intervals."""
    seed: int
    env_steps: int
    updates: int
    mean: float
    std: float
    episodes: int


LABEL_FIELDS = "env", "algorithm", "changes", "seed"
"""What is said of a run."""
IGNORED_FIELDS = (
    "seed",
    "steps",
    "eval_every",
    "eval_episodes",
    "checkpoint_every",
    "checkpoints",
    "log_every",
    "replay",
    "env_timeout",
)
"""Settings that do not tell curves apart."""
LEGEND_LINE = 0.17
"""Height of a line of the legend, in inches: axes keep their own, however many curves there are."""
SPREAD = 4
"""Curves that end so many times further on than others are drawn over a logarithmic axis."""


class Seeds(NamedTuple):
    """The seeds of one curve at one number of steps."""

    env: str
    algorithm: str
    changes: str
    env_steps: int
    seeds: int
    iqm: float
    low: float
    high: float


R = TypeVar("R", bound=tuple[Any, ...])


def newest(sources: Iterable[Iterable[R]]) -> list[R]:
    """The rows of all sources, each of which begins with what is told of a run; of a run that several sources have,
    those of the last."""
    runs: dict[tuple[Any, ...], list[R]] = {}
    for source in sources:
        own: dict[tuple[Any, ...], list[R]] = {}
        for row in source:
            own.setdefault(tuple(map(str, row[: len(LABEL_FIELDS)])), []).append(row)
        runs |= own
    return [row for rows in runs.values() for row in rows]


def points(source: Path) -> list[Point]:
    """The evaluations of a run folder, or those in a CSV that `write` made.

    Raises:
        RejectedInput: neither.
    """
    return tables.read(source, Point) if source.suffix == ".csv" else of_run(source)


def of_run(run_dir: Path) -> list[Point]:
    """The evaluations of a run folder.

    Raises:
        RejectedInput: not a run folder.
    """
    about = run_label(run_dir)
    with (run_dir / "eval.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Point(*about, int(r["env_steps"]), int(r["updates"]), float(r["mean"]), float(r["std"]), int(r["episodes"]))
        for r in rows
    ]


def run_label(run_dir: Path) -> tuple[str, str, str, int]:
    """Environment, algorithm, what the configuration changes, and seed.

    Raises:
        RejectedInput: not a run folder.
    """
    folder = RunFolder.open(run_dir)
    config = folder.read_config()
    recipe = config["algorithm"] | config["run"]
    names = sorted(_differences(json.loads((folder.path / "config.diff.json").read_text("utf-8"))))
    changes = " ".join(
        f"{name}={_written(recipe[name])}" for name in names if name in recipe and name not in IGNORED_FIELDS
    )
    return config["env"]["id"], config["algorithm"]["name"], changes, config["run"]["seed"]


def own_changes(algorithm: str, changes: str, every: Iterable[str]) -> list[str]:
    """Of the changes of one configuration, those that not every configuration has; and the default of a setting that
    the others try several values of."""
    named = [_by_name(each) for each in every]
    tried = {name: {each[name] for each in named if name in each} for each in named for name in each}
    common = {name for name, values in tried.items() if len(values) == 1 and all(name in each for each in named)}
    defaults = _defaults(algorithm)
    swept = {name: defaults[name] for name, values in tried.items() if len(values) > 1 and name in defaults}
    own = swept | _by_name(changes)
    return [f"{name}={own[name]}" for name in sorted(own) if name not in common]


def _by_name(changes: str) -> dict[str, str]:
    return dict(change.split("=", 1) for change in changes.split())


def _defaults(algorithm: str) -> dict[str, str]:
    """The settings of an algorithm, as `told` writes them."""
    fields = dataclasses.fields(ALGORITHMS[algorithm]) if algorithm in ALGORITHMS else ()
    return {field.name: _written(field.default) for field in fields}


def _written(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _differences(record: Any) -> Iterable[str]:
    """The names of all settings in a record of differences, however it is nested."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _differences(value)
        else:
            yield name


def write(found: Sequence[Point], out: Path) -> list[Path]:
    """The CSVs and a figure for each environment, in a folder that exists; returns the files."""
    rows = curves(found)
    files = [
        tables.write(out / "evaluations.csv", Point._fields, found),
        tables.write(out / "curves.csv", Seeds._fields, rows),
    ]
    for env in dict.fromkeys(point.env for point in found):
        files += [Path(file) for file in draw([row for row in rows if row.env == env], out).values()]
    return files


def curves(found: Sequence[Point]) -> list[Seeds]:
    """Every curve, point by point."""
    groups: dict[tuple[str, str, str, int], dict[int, float]] = {}
    for point in sorted(found, key=lambda point: point.env_steps):
        groups.setdefault((point.env, point.algorithm, point.changes, point.env_steps), {})[point.seed] = point.mean
    return [Seeds(*group, len(seeds), *_middle(list(seeds.values()))) for group, seeds in groups.items()]


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
    """The learning curves of one environment; on a logarithmic axis where some take many times the steps of others."""
    figure, axes = plt.subplots(layout="constrained")
    ends, lines = [], 0
    for i, (algorithm, changes) in enumerate(dict.fromkeys((row.algorithm, row.changes) for row in rows)):
        curve = [row for row in rows if (row.algorithm, row.changes) == (algorithm, changes)]
        steps, seeds = [row.env_steps for row in curve], max(row.seeds for row in curve)
        (line,) = axes.plot(steps, [row.iqm for row in curve], style(i), marker="o", markersize=3)
        name = " ".join([algorithm, *own_changes(algorithm, changes, (row.changes for row in rows))])
        label = textwrap.wrap(f"{name} ({seeds} seed{'s' * (seeds > 1)})", 90)
        line.set_label("\n".join(label))
        lines += len(label)
        ends.append(steps[-1])
        low, high = [row.low for row in curve], [row.high for row in curve]
        axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(xlabel="environment steps", ylabel="return of the deterministic policy", title=rows[0].env)
    if max(ends) > SPREAD * min(ends):
        axes.set_xscale("log")
    figure.legend(loc="outside lower center", fontsize="x-small", frameon=False)
    figure.set_size_inches(6.0, 3.6 + LEGEND_LINE * lines)
    return save(figure, out, f"curves_{rows[0].env}")


if __name__ == "__main__":
    print(*write(newest(points(Path(run)) for run in sys.argv[2:]), Path(sys.argv[1])), sep="\n")
