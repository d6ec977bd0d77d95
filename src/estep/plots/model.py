"""The figure of what a model of the environment predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from estep.instruments.play.predictions import Predictions
from estep.plots.curves import BLUE, GREY, save


def draw_model(found: Predictions, out: Path) -> dict[str, str]:
    """The error of imagined states, how many lie in their interval, and how often episodes end where the model says."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    steps = [row.steps for row in found.errors]
    left.plot(steps, [row.unchanged for row in found.errors], color=GREY, label="if nothing changed")
    _band(left, steps, [(row.error, row.low, row.high) for row in found.errors], "imagined states")
    left.set(xlabel="imagined steps", ylabel="mean distance, in standard deviations", ylim=(0, None))
    left.set(title=f"Error in {found.episodes} episodes")
    left.legend(fontsize="small", frameon=False)
    covered = [(row.coverage, row.coverage_low, row.coverage_high) for row in found.errors]
    _band(middle, steps, covered, "within the interval")
    middle.axhline(found.errors[0].wanted, color=GREY, linestyle=":", label="a model that is right")
    middle.set(xlabel="imagined steps", ylabel="share of the numbers", ylim=(0, 1.02), title="Coverage")
    middle.legend(fontsize="small", frameon=False, loc="lower left")
    _endings(right, found)
    return save(figure, out, "model")


def _band(axes: Any, at: list[int], points: list[tuple[float, float, float]], label: str) -> None:
    """A curve with its interval, where that is known."""
    mean, low, high = np.asarray(points).T
    axes.plot(at, mean, color=BLUE, marker="o", markersize=3, label=label)
    axes.fill_between(at, low, high, color=BLUE, alpha=0.2, linewidth=0)


def _endings(axes: Any, found: Predictions) -> None:
    """The share of steps that ended their episode, by the predicted probability."""
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    rows = found.endings
    ended, low, high = (np.asarray([getattr(row, name) for row in rows]) for name in ("ended", "low", "high"))
    error = np.stack([ended - low, high - ended])
    at = [row.predicted for row in rows]
    axes.errorbar(at, ended, yerr=error, color=BLUE, marker="o", linestyle="none", capsize=3)
    axes.set(xlabel="predicted probability to end", ylabel="share that ended", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.set(title=f"Ends: {found.ends}, predicted {found.predicted_ends:.3g}")
