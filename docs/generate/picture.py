"""The picture on the first screen of the README, from tables of results/: `python docs/generate/picture.py`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).parents[2]
CURVES = {
    ("sac", '{"changes":{"warmup_steps":10000}}'): ("sac", "#1f77b4"),
    ("iterative-sac", '{"changes":{"beta":1.0,"warmup_steps":10000}}'): ("iterative-sac", "#d62728"),
    ("mpo", '{"changes":{"warmup_steps":10000}}'): ("mpo", "#2ca02c"),
}
"""(algorithm, settings as the table has them) to a label and a colour."""
PATHS = {
    "direct": ("direct network", "#6baed6"),
    "iterative": ("iterative network", "#d62728"),
    "adam": ("gradient ascent", "#d95f02"),
    "cem": ("cross-entropy method", "#1b9e77"),
    "importance": ("importance sampling", "#c51b8a"),
}


def rows(path: Path) -> list[dict[str, str]]:
    """A table of results."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def draw_curves(axes: Any) -> None:
    """Mean return on HalfCheetah-v5 over environment steps. One or two seeds have no interval worth a band."""
    table = [row for row in rows(ROOT / "results/curves/curves.csv") if row["env"] == "HalfCheetah-v5"]
    for (algorithm, settings), (label, colour) in CURVES.items():
        mine = [row for row in table if (row["algorithm"], row["settings"]) == (algorithm, settings)]
        steps, mean = ([float(row[name]) for row in mine] for name in ("env_steps", "middle"))
        seeds = max(int(row["seeds"]) for row in mine)
        axes.plot(np.divide(steps, 1e3), mean, color=colour, label=f"{label} (n = {seeds})")
    axes.set(title="Return on HalfCheetah-v5", xlabel="environment steps / 1000", ylabel="return")
    axes.legend(frameon=False)


def draw_landscape(axes: Any) -> None:
    """V(s; q) over two means of q, and the way of each inference optimiser."""
    table = rows(ROOT / "results/optimisers/landscape_10.csv")
    x, y, value = (np.asarray([float(row[name]) for row in table]) for name in ("mean 2", "mean 3", "value"))
    drawn = axes.tricontourf(x, y, np.maximum(value, 326), levels=14, cmap="Greys_r")
    axes.figure.colorbar(drawn, ax=axes, label="V(s; q)")
    steps = rows(ROOT / "results/optimisers/landscape_10_paths.csv")
    for name, (label, colour) in PATHS.items():
        path = np.asarray([[float(row["mean 2"]), float(row["mean 3"])] for row in steps if row["optimiser"] == name])
        axes.plot(*path.T, color=colour, marker="o", markersize=3, label=label)
        axes.plot(*path[-1], color=colour, marker="*", markersize=12, markeredgecolor="white")
    axes.set(title="Inference in one state", xlabel="mean of action 2", ylabel="mean of action 3")
    axes.legend(fontsize="small")


if __name__ == "__main__":
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    draw_curves(left)
    draw_landscape(right)
    figure.savefig(ROOT / "docs/figures/first.png", dpi=110)
