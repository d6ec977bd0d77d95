"""The figure of what a model of the environment predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from estep.instruments.interval import Interval
from estep.instruments.play.predictions import Predictions
from estep.plots.curves import BLUE, GREY, band, save


def draw_model(found: Predictions, out: Path) -> dict[str, str]:
    """The error of imagined states, how many lie in their interval, and how often episodes end where the model says."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    steps = [row.steps for row in found.errors]
    left.plot(steps, [row.unchanged for row in found.errors], color=GREY, label="if nothing changed")
    errors = [Interval(row.error, row.low, row.high) for row in found.errors]
    band(left, steps, errors, BLUE, "imagined states")
    left.set(xlabel="imagined steps", ylabel="mean distance, in standard deviations", ylim=(0, None))
    left.set(title=f"Error in {found.episodes} episodes")
    left.legend(fontsize="small", frameon=False)
    covered = [Interval(row.coverage, row.coverage_low, row.coverage_high) for row in found.errors]
    band(middle, steps, covered, BLUE, "within the interval")
    middle.axhline(found.errors[0].wanted, color=GREY, linestyle=":", label="a model that is right")
    middle.set(xlabel="imagined steps", ylabel="share of the numbers", ylim=(0, 1.02), title="Coverage")
    middle.legend(fontsize="small", frameon=False, loc="lower left")
    _endings(right, found)
    return save(figure, out, "model")


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
