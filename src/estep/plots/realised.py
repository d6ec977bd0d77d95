"""The figure of what inferred actions gain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from estep.instruments.play.realised import Realisation, Realised
from estep.plots.curves import BLUE, GREY, save

ORANGE = "#d95f02"


def draw_realised(found: Realisation, out: Path) -> dict[str, str]:
    """Left the gain that Q̂ predicts, right the gain that is realised and that of the control, for each optimiser."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    _points(left, found.rows, "predicted", "predicted by Q̂", BLUE, 0.0)
    _points(right, found.rows, "realised", "inferred actions", ORANGE, -0.1)
    _points(right, found.rows, "control", "random actions of the same size", GREY, 0.1)
    unit = "particles" if found.rows[0].optimiser == "particles" else "iterations"
    for axes in (left, right):
        axes.axhline(0.0, color="black", linewidth=0.8)
        axes.set_xticks(range(len(found.rows)), [_tick(row, found.rows[0].optimiser) for row in found.rows])
        axes.set(xlim=(-0.5, len(found.rows) - 0.5), xlabel=f"{unit} of {found.rows[0].optimiser} inference")
    left.set(ylabel=f"gain of {found.steps} inferred actions", title="Predicted")
    right.set(title=f"Realised in {found.states} states of {found.episodes} episodes")
    right.legend(fontsize="small", frameon=False)
    return save(figure, out, "realised")


def _tick(row: Realised, optimiser: str) -> str:
    """The effort of an optimiser, with its name where it is another than the axis names."""
    return str(row.iterations) if row.optimiser == optimiser else f"{row.optimiser}, {row.iterations}"


def _points(axes: Any, rows: list[Realised], name: str, label: str, colour: str, aside: float) -> None:
    """The means of a column, with their intervals."""
    mean, low, high = (np.asarray([getattr(row, name + end) for row in rows]) for end in ("", "_low", "_high"))
    error = np.nan_to_num(np.stack([mean - low, high - mean]))
    at = np.arange(len(rows)) + aside
    axes.errorbar(at, mean, yerr=error, color=colour, marker="o", linestyle="none", capsize=3, label=label)
