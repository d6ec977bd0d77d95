"""Figures of a run. Drawn without a display, as PNG and SVG."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from estep.envs.tasks.sources import ALL
from estep.runs.folder import RunFolder

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
    with (run_dir / "eval.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    tasks = list(dict.fromkeys([ALL, *(row.get("task", ALL) for row in rows)]))
    figure, panels = plt.subplots(
        len(tasks), squeeze=False, figsize=(6, 3.6 * len(tasks)), sharex=True, layout="constrained"
    )
    for axes, task in zip(panels[:, 0], tasks, strict=True):
        of_task = [row for row in rows if row.get("task", ALL) == task]
        steps, mean, std = ([float(row[name] or "nan") for row in of_task] for name in ("env_steps", "mean", "std"))
        low, high = [m - s for m, s in zip(mean, std, strict=True)], [m + s for m, s in zip(mean, std, strict=True)]
        axes.plot(steps, mean, color=BLUE, marker="o", markersize=3)
        axes.fill_between(steps, low, high, color=BLUE, alpha=0.2, linewidth=0)
        axes.set_title(title if task == ALL else task, parse_math=False)
        axes.set(ylabel="return (mean ± std over episodes)")
    axes.set(xlabel="environment steps")
    return save(figure, run_dir, "learning_curve")


def draw_if_possible(run_dir: Path, note: Callable[[str], None]) -> None:
    """As `draw_run`, with a note on each file, or on why there is none: a figure is not worth a failed run."""
    try:
        for path in draw_run(run_dir).values():
            note(f"wrote    {path}")
    except Exception as error:
        note(f"note     no learning curve was drawn: {type(error).__name__}: {error}")


def save(figure: Any, out: Path, name: str) -> dict[str, str]:
    """A figure as PNG and SVG; returns the files by name. Equal figures give equal bytes: neither has a date."""
    files = {f"{name}.{kind}": str(out / f"{name}.{kind}") for kind in ("png", "svg")}
    with plt.rc_context({"svg.hashsalt": name}):
        for path in files.values():
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.endswith("svg") else None)
    plt.close(figure)
    return files
