"""Runs beside each other: their evaluations as one CSV, and their learning curves as one figure for each environment.

`python -m estep.plots.compare OUT RUN RUN ...` writes OUT/evaluations.csv and OUT/curves_ENV.png and .svg. Runs whose
configurations differ in the seed alone share a curve: the mean over seeds, with a band from the lowest to the highest.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from estep.experiment import storage
from estep.experiment.folder import RunFolder
from estep.plots.curves import save


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


UNTOLD = ("seed", "steps", "eval_every", "eval_episodes", "checkpoint_every", "log_every", "replay", "env_timeout")
"""Settings that do not tell curves apart."""


def points(run_dir: Path) -> list[Point]:
    """The evaluations of a run folder.

    Raises:
        RejectedInput: not a run folder.
    """
    folder = RunFolder.open(run_dir)
    config = folder.read_config()
    recipe = config["algorithm"] | config["run"]
    told = sorted(_differences(json.loads((folder.path / "config.diff.json").read_text("utf-8"))))
    changes = " ".join(f"{name}={json.dumps(recipe[name])}" for name in told if name in recipe and name not in UNTOLD)
    with (folder.path / "eval.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    about = config["env"]["id"], config["algorithm"]["name"], changes, config["run"]["seed"]
    return [
        Point(*about, int(r["env_steps"]), int(r["updates"]), float(r["mean"]), float(r["std"]), int(r["episodes"]))
        for r in rows
    ]


def _differences(record: Any) -> Iterable[str]:
    """The names of all settings in a record of differences, however it is nested."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _differences(value)
        else:
            yield name


def write(found: Sequence[Point], out: Path) -> list[Path]:
    """The CSV and a figure for each environment, in a folder that exists; returns the files."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerows([Point._fields, *found])
    path = out / "evaluations.csv"
    storage.write_atomic(path, text.getvalue().encode())
    files = [path]
    for env in dict.fromkeys(point.env for point in found):
        files += [Path(file) for file in draw([point for point in found if point.env == env], out).values()]
    return files


def draw(found: Sequence[Point], out: Path) -> dict[str, str]:
    """The learning curves of one environment."""
    figure, axes = plt.subplots(figsize=(6, 4.2), layout="constrained")
    for algorithm, changes in dict.fromkeys((point.algorithm, point.changes) for point in found):
        curve = [point for point in found if (point.algorithm, point.changes) == (algorithm, changes)]
        seeds = {point.seed for point in curve}
        steps = sorted({point.env_steps for point in curve})
        values = [[point.mean for point in curve if point.env_steps == step] for step in steps]
        label = f"{algorithm} {changes} ({len(seeds)} seed{'s' * (len(seeds) > 1)})"
        (line,) = axes.plot(steps, [sum(v) / len(v) for v in values], marker="o", markersize=3)
        line.set_label(textwrap.fill(label, 90))
        low, high = [min(v) for v in values], [max(v) for v in values]
        axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(xlabel="environment steps", ylabel="return of the deterministic policy", title=found[0].env)
    figure.legend(loc="outside lower center", fontsize="x-small", frameon=False)
    return save(figure, out, f"curves_{found[0].env}")


if __name__ == "__main__":
    print(*write([point for run in sys.argv[2:] for point in points(Path(run))], Path(sys.argv[1])), sep="\n")
