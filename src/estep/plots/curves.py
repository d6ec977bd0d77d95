"""Figures of a run. Drawn without a display, as PNG and SVG."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from estep.envs.tasks.sources import ALL
from estep.runs import storage, tables
from estep.runs.folder import EVALUATIONS, MEMBERS, RunFolder

BLUE, GREY = "#1f5fa8", "#8a8f98"


def style(i: int) -> str:
    """The line style of the i-th line of a figure, whose colours come again after ten."""
    return ("-", "--", ":")[i // 10 % 3]


def draw_run(run_dir: Path) -> dict[str, str]:
    """The learning curve of a run folder, from its eval.csv, beside it; returns the files by name. With several tasks
    there is a panel for each, after that of their mean.

    Raises:
        RejectedInput: not a run folder, or its configuration cannot be read.
    """
    config = RunFolder.open(run_dir).read_config()
    title = f"{config['algorithm']['name']} on {config['env']['id']}"
    rows = list(tables.cells(run_dir / EVALUATIONS))
    tasks = list(dict.fromkeys([ALL, *(row.get("task", ALL) for row in rows)]))
    figure, panels = plt.subplots(
        len(tasks), squeeze=False, figsize=(6, 3.6 * len(tasks)), sharex=True, layout="constrained"
    )
    for axes, task in zip(panels[:, 0], tasks, strict=True):
        of_task = [row for row in rows if row.get("task", ALL) == task]
        numbers = [[float(row[name] or "nan") for name in ("env_steps", "mean", "std")] for row in of_task]
        steps, mean, std = np.array(numbers).reshape(-1, 3).T
        axes.plot(steps, mean, color=BLUE, marker="o", markersize=3)
        axes.fill_between(steps, mean - std, mean + std, color=BLUE, alpha=0.2, linewidth=0)
        axes.set_title(title if task == ALL else task, parse_math=False)
        axes.set(ylabel="return (mean ± std over episodes)")
    axes.set(xlabel="environment steps")
    return save(figure, run_dir, "learning_curve")


def draw_population(run_dir: Path) -> dict[str, str]:
    """The learning curve of each seed of a population and their mean; returns the files by name. A seed that failed
    ends where it failed.

    Raises:
        RejectedInput: not a run folder, or its configuration cannot be read.
    """
    config = RunFolder.open(run_dir).read_config()
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    at: dict[float, list[float]] = defaultdict(list)
    for place in sorted((run_dir / MEMBERS).iterdir()):
        rows = tables.cells(place / EVALUATIONS)
        curve = [(float(row["env_steps"]), float(row["mean"] or "nan")) for row in rows]
        axes.plot(*zip(*curve, strict=True), color=GREY, linewidth=1, alpha=0.6)
        for step, mean in curve:
            if math.isfinite(mean):
                at[step].append(mean)
    axes.plot(list(at), [np.mean(means) for means in at.values()], color=BLUE, marker="o", markersize=3)
    axes.set_title(f"{config['algorithm']['name']} on {config['env']['id']}", parse_math=False)
    axes.set(xlabel="environment steps", ylabel="return (each seed, and mean)")
    return save(figure, run_dir, "learning_curve")


def band(axes: Any, x: Sequence[float], rows: Sequence[Any], colour: str, label: str | None = None) -> None:
    """Means joined by a line, with their intervals."""
    axes.plot(x, [row.mean for row in rows], color=colour, marker="o", markersize=4, label=label)
    axes.fill_between(x, [row.low for row in rows], [row.high for row in rows], color=colour, alpha=0.15, linewidth=0)


def save(figure: Any, out: Path, name: str) -> dict[str, str]:
    """A figure as PNG and SVG; returns the files by name. Equal figures give equal bytes: neither has a date.

    Raises:
        StorageFailure: the disk fails.
    """
    files = {f"{name}.{kind}": str(out / f"{name}.{kind}") for kind in ("png", "svg")}
    try:
        with plt.rc_context({"svg.hashsalt": name}):
            for path in files.values():
                memory, kind = io.BytesIO(), path.rpartition(".")[2]
                figure.savefig(memory, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
                storage.write_atomic(Path(path), memory.getvalue())
    finally:
        plt.close(figure)
    return files
