"""Measurements of inference in several runs, side by side: what `estep inspect` left in their folders, merged.

`estep compare OUT RUN ... --inspected` reads the tables in RUN/plots and writes to OUT:
over_seeds.csv, means of what was measured over the seeds of each curve; improvement.csv, the improvement of V by
inference iteration in every run; improvement_checkpoints.csv, the same at earlier checkpoints; improvement_tests.csv,
whether it rises (the rank correlation of k and V) and flattens (the mean gain of the later iterations against that of
the first three); calibration.csv, Q̂ - G as each agent reads its critics; gap.csv, the inference gap and its parts,
means over states; critics.csv, value and disagreement of the critics at the end of training; those of `COPIED` as they
are, of all runs; improvement.png, calibration.png and .svg.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from estep.plots import labels, measured, starts, wording
from estep.plots.curves import GREY, save, style
from estep.plots.learning_curves import LEGEND_LINE
from estep.plots.measured import Bias, ImprovementRow
from estep.plots.over_seeds import OverSeeds, over_seeds
from estep.runs import storage, tables

FIRST, LATER = (1, 3), (6, 10)
"""Iterations whose mean gains are compared, both ends included (Marino, Piché, Yue: ten iterations)."""
LABEL = 70
"""Characters in a line of a label."""


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
    found = measured.read(sources)
    curves = [list(curve) for _, curve in itertools.groupby(found.improvement, key=labels.run_key)]
    merged = [(name, lines) for name, lines in found.lines().items() if lines]
    written: list[tuple[str, Sequence[str], Sequence[Sequence[object]]]] = [
        ("over_seeds", OverSeeds._fields, over_seeds(found.lines())),
        ("improvement_tests", Shape._fields, [shape(curve) for curve in curves]),
        *((name, max(map(tuple, lines), key=len), [tuple(line.values()) for line in lines]) for name, lines in merged),
    ]
    storage.make_dir(out)
    files = [tables.write(out / f"{name}.csv", head, rows) for name, head, rows in written if rows]
    files += [Path(file) for file in (draw_improvements(curves, out) if curves else {}).values()]
    biases = starts.shared(found.calibration)
    return files + [Path(file) for file in (draw_biases(biases, out) if biases else {}).values()]


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
