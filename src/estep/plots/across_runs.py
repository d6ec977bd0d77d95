"""Measurements of inference in several runs, side by side: what `estep inspect` left in their folders, merged.

`estep compare OUT RUN ... --inspected` reads the tables in RUN/plots and writes to OUT:
improvement.csv, the improvement of V by inference iteration in every run; improvement_checkpoints.csv, the same at
earlier checkpoints; improvement_tests.csv, whether it rises (the rank correlation of k and V) and flattens (the mean
gain of the later iterations against that of the first three); calibration.csv, Q̂ - G as each agent reads its critics;
gap.csv, the inference gap and its parts, means over states; critics.csv, value and disagreement of the critics at the
end of training; those of `COPIED` as they are, of all runs; improvement.png, calibration.png and .svg.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from estep.instruments.tables import PARTS
from estep.plots import labels, starts, wording
from estep.plots.curves import GREY, save, style
from estep.plots.learning_curves import LEGEND_LINE
from estep.runs import storage, tables
from estep.runs.folder import RUN, RunFolder

FIRST, LATER = (1, 3), (6, 10)
"""Iterations whose mean gains are compared, both ends included (Marino, Piché, Yue: ten iterations)."""
LABEL = 70
"""Characters in a line of a label."""
LAST = 10
"""Lines of metrics over which the critics of a run are averaged."""
COPIED = "improvement_checkpoints", "transfer", "staleness", "realised", "model", "model_endings"
TABLES = ("improvement", "improvement_tests", "calibration", "gap", "critics", *COPIED)
"""What is written."""


class ImprovementRow(NamedTuple):
    """V(λ_k) - V(λ_0) of one run, over states."""

    env: str
    algorithm: str
    settings: str
    seed: int
    iteration: int
    mean: float
    low: float
    high: float


class Shape(NamedTuple):
    """Whether inference of one run improves with each iteration, by less and less."""

    env: str
    algorithm: str
    settings: str
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
    settings: str
    seed: int
    beta: float
    mean: float
    low: float
    high: float


class Critics(NamedTuple):
    """The critics of one run at the end of training: means over its last lines of metrics."""

    env: str
    algorithm: str
    settings: str
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
    settings: str
    seed: int
    states: int
    total: float
    approximation: float
    amortisation: float


class State(NamedTuple):
    """The inference gap in one state."""

    total: float
    approximation: float
    amortisation: float


class Reading(NamedTuple):
    """The mean of Q̂ - G for one pessimism."""

    own: str
    """True for that of the agent."""
    beta: float
    mean: float
    low: float
    high: float


R = TypeVar("R", bound=NamedTuple)


def merge(sources: Sequence[Path], name: str, row: type[R], measured: Callable[[Path], list[R]]) -> list[R]:
    """One table of all runs; `measured` reads it from the folder of one.

    Raises:
        RejectedInput: neither a run folder nor one that `write` made, or its tables cannot be read.
    """

    def of(source: Path) -> list[R]:
        if not made_before(source):
            return measured(source)
        before = source / f"{name}.csv"
        return labels.read(before, row) if os.path.lexists(before) else []

    return labels.newest(map(of, sources))


def made_before(source: Path) -> bool:
    """Whether a folder is no run but holds tables of some."""
    return not (source / RUN).is_file() and any((source / f"{name}.csv").is_file() for name in TABLES)


def of_run(run_dir: Path, name: str, row: type[R]) -> list[R]:
    """A table in the plots of one run, with the label of the run before each row, or nothing where there is none.

    Raises:
        RejectedInput: not a run folder, or the table cannot be read.
    """
    about, path = labels.about_run(run_dir), run_dir / "plots" / f"{name}.csv"
    return labels.read(path, row, about) if os.path.lexists(path) else []


def gaps(run_dir: Path) -> list[GapRow]:
    """The mean gap, or nothing where it was not measured.

    Raises:
        RejectedInput: not a run folder, or the table cannot be read.
    """
    rows = of_run(run_dir, "gap", State)
    means = [float(np.mean([getattr(row, part) for row in rows])) for part in PARTS if rows]
    return [GapRow(*labels.run_label(run_dir), len(rows), *means)] if rows else []


def improvements(run_dir: Path) -> list[ImprovementRow]:
    """The improvement by iteration, or nothing where it was not measured.

    Raises:
        RejectedInput: not a run folder, or the table cannot be read.
    """
    return of_run(run_dir, "improvement", ImprovementRow)


def biases(run_dir: Path) -> list[Bias]:
    """The error of Q̂ as the agent reads it, or nothing where it was not measured.

    Raises:
        RejectedInput: not a run folder, or the table cannot be read.
    """
    about = labels.run_label(run_dir)
    return [Bias(*about, *row[1:]) for row in of_run(run_dir, "calibration", Reading) if row.own == "True"]


def critics(run_dir: Path) -> list[Critics]:
    """Value and disagreement at the end, or nothing where the metrics lack them (algorithms without Q̂).

    Raises:
        RejectedInput: not a run folder, or its metrics cannot be read.
    """
    lines = deque(RunFolder.open(run_dir).read_metrics(), LAST)
    names = ("critic/value", "critic/disagreement")
    known = [line for line in lines if all(line.get(name) is not None for name in names)]
    means = [float(np.mean([line[name] for line in known])) for name in names if known]
    return [Critics(*labels.run_label(run_dir), int(known[-1]["env_steps"]), *means)] if known else []


def shape(curve: Sequence[ImprovementRow]) -> Shape:
    """The tests of one run's curve."""
    one = curve[0]
    values = np.array([row.mean for row in curve if row.iteration <= LATER[1]])
    gains = np.diff(values)
    first = float(gains[FIRST[0] - 1 : FIRST[1]].mean())
    later = float(gains[LATER[0] - 1 :].mean()) if len(gains) >= LATER[1] else float("nan")
    rank = float(stats.spearmanr(np.arange(len(values)), values).statistic)
    return Shape(
        one.env, one.algorithm, one.settings, one.seed, rank, first, later, later / first if first else float("nan")
    )


def write(sources: Sequence[Path], out: Path) -> list[Path]:
    """Everything, in a folder that is made once all is read; returns the files.

    Raises:
        RejectedInput: neither a run folder nor one that this made, or its tables cannot be read.
    """
    iterates = merge(sources, "improvement", ImprovementRow, improvements)
    curves = [list(curve) for _, curve in itertools.groupby(iterates, key=labels.run_key)]
    found = merge(sources, "calibration", Bias, biases)
    gap_rows, critic_rows = merge(sources, "gap", GapRow, gaps), merge(sources, "critics", Critics, critics)
    written: list[tuple[str, Sequence[str], Sequence[Sequence[object]]]] = [
        ("improvement", ImprovementRow._fields, iterates),
        ("improvement_tests", Shape._fields, [shape(curve) for curve in curves]),
        ("calibration", Bias._fields, found),
        ("gap", GapRow._fields, gap_rows),
        ("critics", Critics._fields, critic_rows),
    ]
    for name in COPIED:
        copies = [copied(source, name) for source in sources]
        head = max((tuple(lines[0]) for lines in copies if lines), key=len, default=())
        written.append((name, head, labels.newest([tuple(line.values()) for line in lines] for lines in copies)))
    storage.make_dir(out)
    files = [tables.write(out / f"{name}.csv", head, rows) for name, head, rows in written if rows]
    files += [Path(file) for file in (draw_improvements(curves, out) if curves else {}).values()]
    return files + [Path(file) for file in (draw_biases(starts.shared(found), out) if found else {}).values()]


def copied(source: Path, name: str) -> list[dict[str, str]]:
    """The lines of a table as the run has it, by column, with the label of the run."""
    if made_before(source):
        return labels.read_lines(source / f"{name}.csv")
    return labels.read_lines(source / "plots" / f"{name}.csv", labels.about_run(source))


def draw_improvements(curves: Sequence[Sequence[ImprovementRow]], out: Path) -> dict[str, str]:
    """A panel for each environment, a line with its interval for each run."""
    envs = list(dict.fromkeys(curve[0].env for curve in curves))
    figure, panels = plt.subplots(1, len(envs), squeeze=False, layout="constrained")
    lines = 0
    for axes, env in zip(panels[0], envs, strict=True):
        here = [curve for curve in curves if curve[0].env == env]
        names = labels.labels((curve[0].algorithm, curve[0].settings) for curve in here)
        for i, curve in enumerate(here):
            one, k, mean = curve[0], [row.iteration for row in curve], [row.mean for row in curve]
            label = "\n".join(wording.wrap(f"{names[one.algorithm, one.settings]}, seed {one.seed}", LABEL))
            (line,) = axes.plot(k, mean, style(i), marker="o", markersize=3, label=label)
            low, high = [row.low for row in curve], [row.high for row in curve]
            axes.fill_between(k, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set(title=env, xlabel="inference iteration k", ylabel="V(λ_k) - V(λ_0), 95 % interval over states")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize="x-small", frameon=False)
        lines = max(lines, sum(1 + line.get_label().count("\n") for line in axes.get_lines()))
    figure.set_size_inches(1 + 4.2 * len(envs), 3.6 + LEGEND_LINE * (lines + 2))
    return save(figure, out, "improvement")


def draw_biases(found: Sequence[Bias], out: Path) -> dict[str, str]:
    """A line for each environment and setting, with a point and its interval for each run."""
    groups: dict[tuple[str, str, str], list[Bias]] = {}
    for bias in found:
        groups.setdefault((bias.env, bias.algorithm, labels.shared(bias.settings)), []).append(bias)
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.5 * len(groups)), layout="constrained")
    texts = []
    for at, ((env, algorithm, settings), runs) in enumerate(groups.items()):
        for i, bias in enumerate(runs):
            error = [[max(bias.mean - bias.low, 0.0)], [max(bias.high - bias.mean, 0.0)]]
            known = None if np.isnan(error).any() else error
            axes.errorbar([bias.mean], [at + 0.12 * i], xerr=known, marker="o", markersize=4, capsize=2, color=f"C{i}")
        names = labels.labels([group[1:] for group in groups if group[0] == env], without=("beta",))
        texts.append("\n".join(wording.wrap(f"{env}, β {runs[0].beta:g}, {names[algorithm, settings]}", LABEL)))
    axes.axvline(0.0, color=GREY, linewidth=1)
    axes.set_yticks(range(len(groups)), texts, fontsize="x-small")
    axes.set(
        xlabel="mean of Q̂ - return, with its 95 % interval over episodes",
        title="Over-estimation of each run by its own critics",
    )
    return save(figure, out, "calibration")
