"""What `estep inspect` found in several runs, side by side: the poster's first figure, and over-estimation.

`python -m estep.plots.across_runs OUT RUN RUN ...` reads the tables that are in RUN/plots, and writes the following
to OUT. A RUN is a folder, or an OUT of before, so that runs can be added when their folders are gone; of a run that
several of them have, the last counts:
improvement.csv, with every run's curve; improvement_checkpoints.csv, those of earlier checkpoints;
improvement_tests.csv, whether it rises (the rank correlation of k and V) and flattens (the mean gain of the later
iterations against that of the first three); calibration.csv, Q̂ - G as each agent reads its critics; gap.csv, the
inference gap and its parts, means over states; critics.csv, the value and disagreement of the critics at the end;
transfer.csv and staleness.csv, those of all runs; improvement.png, calibration.png and .svg.
"""

from __future__ import annotations

import csv
import itertools
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from estep.instruments.tables import PARTS
from estep.plots.curves import GREY, save, style
from estep.plots.learning_curves import LABEL_FIELDS, LEGEND_LINE, newest, own_changes, run_label
from estep.runs import tables
from estep.runs.folder import RUN, RunFolder

FIRST, LATER = (1, 3), (6, 10)
"""Iterations whose mean gains are compared, both ends included (Marino, Piché, Yue: ten iterations)."""
LABEL = 70
"""Characters in a line of a label."""
LAST = 10
"""Lines of metrics over which the critics of a run are averaged."""
COPIED = "improvement_checkpoints", "transfer", "staleness"
TABLES = ("improvement", "improvement_tests", "calibration", "gap", "critics", *COPIED)
"""What is written."""


class ImprovementRow(NamedTuple):
    """V(λ_k) - V(λ_0) of one run, over states."""

    env: str
    algorithm: str
    changes: str
    seed: int
    iteration: int
    mean: float
    low: float
    high: float


class Shape(NamedTuple):
    """Whether inference of one run improves with each iteration, by less and less."""

    env: str
    algorithm: str
    changes: str
    seed: int
    spearman: float
    """Of k and the improvement, k = 0..10 (or fewer where fewer were measured)."""
    first_gain: float
    """The mean gain of iterations 1 to 3."""
    later_gain: float
    """That of iterations 6 to 10; NaN where they were not measured."""
    ratio: float
    """later_gain / first_gain; NaN where there was no first gain."""


class Bias(NamedTuple):
    """The mean of Q̂ - G in one run, over episodes."""

    env: str
    algorithm: str
    changes: str
    seed: int
    beta: float
    mean: float
    low: float
    high: float


class Critics(NamedTuple):
    """What the critics of one run held, means over its last lines of metrics."""

    env: str
    algorithm: str
    changes: str
    seed: int
    env_steps: int
    """Of the last line."""
    value: float
    """The mean Q̂ of the steps they learned from, in units of reward."""
    disagreement: float
    """The biased std over the ensemble, in units of reward: of two critics half of what they differ by, of one zero."""


class GapRow(NamedTuple):
    """The inference gap of one run and its two parts, means over states."""

    env: str
    algorithm: str
    changes: str
    seed: int
    states: int
    total: float
    approximation: float
    amortisation: float


R = TypeVar("R", ImprovementRow, Bias, Critics, GapRow)


def gather(sources: Sequence[Path], name: str, row: type[R], measured: Callable[[Path], list[R]]) -> list[R]:
    """One table of all runs; `measured` reads it from the folder of one.

    Raises:
        RejectedInput: neither a run folder nor one that `write` made, or its tables cannot be read.
    """

    def of(source: Path) -> list[R]:
        before = source / f"{name}.csv"
        if not made_before(source):
            return measured(source)
        return tables.read(before, row) if before.is_file() else []

    return newest(map(of, sources))


def made_before(source: Path) -> bool:
    """Whether a folder is no run but holds tables of some."""
    return not (source / RUN).is_file() and any((source / f"{name}.csv").is_file() for name in TABLES)


def gaps(run_dir: Path) -> list[GapRow]:
    """The gap, or nothing where it was not measured.

    Raises:
        RejectedInput: not a run folder.
    """
    rows = _rows(run_dir / "plots" / "gap.csv")
    means = [float(np.mean([float(row[part]) for row in rows])) for part in PARTS if rows]
    return [GapRow(*run_label(run_dir), len(rows), *means)] if rows else []


def improvements(run_dir: Path) -> list[ImprovementRow]:
    """The improvement by iteration, or nothing where it was not measured.

    Raises:
        RejectedInput: not a run folder.
    """
    about = run_label(run_dir)
    return [
        ImprovementRow(*about, int(row["iteration"]), *(float(row[name]) for name in ("mean", "low", "high")))
        for row in _rows(run_dir / "plots" / "improvement.csv")
    ]


def biases(run_dir: Path) -> list[Bias]:
    """The error of Q̂ as the agent reads it, or nothing where it was not measured.

    Raises:
        RejectedInput: not a run folder.
    """
    about = run_label(run_dir)
    return [
        Bias(*about, *(float(row[name]) for name in ("beta", "mean", "low", "high")))
        for row in _rows(run_dir / "plots" / "calibration.csv")
        if row["own"] == "True"
    ]


def critics(run_dir: Path) -> list[Critics]:
    """What the critics held at the end, or nothing where the metrics do not say it (rows without Q̂).

    Raises:
        RejectedInput: not a run folder, or its metrics cannot be read.
    """
    lines = RunFolder.open(run_dir).read_metrics()[-LAST:]
    names = ("critic/value", "critic/disagreement")
    known = [line for line in lines if all(line.get(name) is not None for name in names)]
    means = [float(np.mean([line[name] for line in known])) for name in names if known]
    return [Critics(*run_label(run_dir), int(known[-1]["env_steps"]), *means)] if known else []


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def shape(curve: Sequence[ImprovementRow]) -> Shape:
    """The tests of one run's curve."""
    one = curve[0]
    values = np.array([row.mean for row in curve if row.iteration <= LATER[1]])
    gains = np.diff(values)
    first = float(gains[FIRST[0] - 1 : FIRST[1]].mean())
    later = float(gains[LATER[0] - 1 :].mean()) if len(gains) >= LATER[1] else float("nan")
    rank = float(stats.spearmanr(np.arange(len(values)), values).statistic)
    return Shape(
        one.env, one.algorithm, one.changes, one.seed, rank, first, later, later / first if first else float("nan")
    )


def write(sources: Sequence[Path], out: Path) -> list[Path]:
    """Everything, in a folder that exists; returns the files.

    Raises:
        RejectedInput: neither a run folder nor one that this made, or its tables cannot be read.
    """
    iterates = gather(sources, "improvement", ImprovementRow, improvements)
    curves = [list(curve) for _, curve in itertools.groupby(iterates, key=lambda row: row[: len(LABEL_FIELDS)])]
    found = gather(sources, "calibration", Bias, biases)
    missed, held = gather(sources, "gap", GapRow, gaps), gather(sources, "critics", Critics, critics)
    shapes = [shape(curve) for curve in curves]
    written: list[tuple[str, Sequence[str], Sequence[Sequence[object]]]] = [
        ("improvement", ImprovementRow._fields, iterates),
        ("improvement_tests", Shape._fields, shapes),
        ("calibration", Bias._fields, found),
        ("gap", GapRow._fields, missed),
        ("critics", Critics._fields, held),
    ]
    for name in COPIED:
        kept = [copied(source, name) for source in sources]
        written.append((name, max((head for head, _ in kept), key=len, default=()), newest(rows for _, rows in kept)))
    files = [tables.write(out / f"{name}.csv", head, rows) for name, head, rows in written if rows]
    files += [Path(file) for file in (draw_improvements(curves, out) if curves else {}).values()]
    return files + [Path(file) for file in (draw_biases(found, out) if found else {}).values()]


def copied(source: Path, name: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of a table as the run has it, with what is said of the run."""
    if made_before(source):
        found, about = _rows(source / f"{name}.csv"), {}
    else:
        found, about = (
            _rows(source / "plots" / f"{name}.csv"),
            dict(zip(LABEL_FIELDS, map(str, run_label(source)), strict=True)),
        )
    rows = [about | row for row in found]
    return tuple(rows[0]) if rows else (), [tuple(row.values()) for row in rows]


def draw_improvements(curves: Sequence[Sequence[ImprovementRow]], out: Path) -> dict[str, str]:
    """A panel for each environment, a line with its interval for each run."""
    envs = list(dict.fromkeys(curve[0].env for curve in curves))
    figure, panels = plt.subplots(1, len(envs), squeeze=False, layout="constrained")
    lines = 0
    for axes, env in zip(panels[0], envs, strict=True):
        here = [curve for curve in curves if curve[0].env == env]
        for i, curve in enumerate(here):
            one, k, mean = curve[0], [row.iteration for row in curve], [row.mean for row in curve]
            own = own_changes(one.algorithm, one.changes, (other[0].changes for other in here))
            label = textwrap.fill(f"{' '.join([one.algorithm, *own])}, seed {one.seed}", LABEL)
            (line,) = axes.plot(k, mean, style(i), marker="o", markersize=3, label=label)
            low, high = [row.low for row in curve], [row.high for row in curve]
            axes.fill_between(k, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set(title=env, xlabel="inference iteration k", ylabel="V(λ_k) - V(λ_0)")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize="x-small", frameon=False)
        lines = max(lines, sum(1 + line.get_label().count("\n") for line in axes.get_lines()))
    figure.set_size_inches(1 + 4.2 * len(envs), 3.6 + LEGEND_LINE * lines)
    return save(figure, out, "improvement")


def draw_biases(found: Sequence[Bias], out: Path) -> dict[str, str]:
    """A point with its interval for each run, by environment and configuration."""
    groups = list(dict.fromkeys(bias[:3] for bias in found))
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.5 * len(groups)), layout="constrained")
    labels = []
    for at, group in enumerate(groups):
        runs = [bias for bias in found if bias[:3] == group]
        for i, bias in enumerate(runs):
            error = [[max(bias.mean - bias.low, 0.0)], [max(bias.high - bias.mean, 0.0)]]
            known = None if np.isnan(error).any() else error
            axes.errorbar([bias.mean], [at + 0.12 * i], xerr=known, marker="o", markersize=4, capsize=2, color=f"C{i}")
        env, algorithm, changes = group
        own = own_changes(algorithm, changes, (bias.changes for bias in found if bias.env == env))
        labels.append(" ".join([env, algorithm, f"β={runs[0].beta:g}", *(c for c in own if not c.startswith("beta="))]))
    axes.axvline(0.0, color=GREY, linewidth=1)
    axes.set_yticks(range(len(groups)), labels, fontsize="x-small")
    axes.set(xlabel="mean of Q̂ - return", title="Over-estimation, each run by its own critics")
    return save(figure, out, "calibration")


if __name__ == "__main__":
    print(*write([Path(run) for run in sys.argv[2:]], Path(sys.argv[1])), sep="\n")
