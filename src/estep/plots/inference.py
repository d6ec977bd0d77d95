"""Figures of an inspection: one function a figure, as PNG and SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from estep.instruments.calibration import Calibration
from estep.instruments.improvement import Growth, Improvement, Logged
from estep.instruments.inspection import Comparison, Gaps, Inspection
from estep.instruments.interval import Interval, interval
from estep.instruments.landscape import Landscape
from estep.instruments.modes import Modes
from estep.instruments.staleness import AFRESH, KEPT, Staleness
from estep.instruments.transfer import Transfer
from estep.plots.curves import BLUE, GREY, band, save
from estep.plots.model import draw_model
from estep.plots.realised import draw_realised

ORANGE = "#d95f02"
COLOURS = {
    "iterative": BLUE,
    "direct": "#6baed6",
    "own": BLUE,
    "semi-amortised": "#7570b3",
    "gradient": ORANGE,
    "cem": "#1b9e77",
    "importance": "#c2187c",
}
"""Of the optimisers, the trained ones blue in every figure."""
LABELS = {
    "iterative": "iterative (trained)",
    "direct": "direct (trained)",
    "own": "the agent's own",
    "semi-amortised": "trained, then Adam",
}


def draw(found: Inspection, out: Path) -> dict[str, str]:
    """Every figure of an inspection, in a folder that exists; returns the files by name."""
    files: dict[str, str] = {}
    if found.improvement is not None:
        files |= draw_improvement(found.improvement.curve, found.trained_iterations, out)
        files |= draw_growth(found.improvement.growth, found.improvement.logged, out)
    if found.gap is not None:
        files |= draw_gap(found.gap, out)
    if found.compare is not None:
        files |= draw_compared(found.compare, out)
    for one in found.landscape or ():
        files |= draw_landscape(one, out)
    if found.modes is not None:
        files |= draw_modes(found.modes, out)
    if found.transfer is not None:
        files |= draw_transfer(found.transfer, out)
    if found.staleness is not None:
        files |= draw_staleness(found.staleness, out)
    if found.calibration is not None:
        files |= draw_calibration(found.calibration, out)
    if found.realised is not None:
        files |= draw_realised(found.realised, out)
    if found.model is not None:
        files |= draw_model(found.model, out)
    return files


def draw_improvement(curve: Sequence[Improvement], trained: int, out: Path) -> dict[str, str]:
    """V(λ_k) - V(λ_0) against k, with its interval over states; iterations beyond the trained number are marked."""
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    band(axes, [row.iteration for row in curve], curve, BLUE)
    axes.axvline(trained, color=GREY, linewidth=1, linestyle=":")
    axes.annotate("trained with", (trained, 0), xytext=(4, 4), textcoords="offset points", color=GREY)
    axes.set(xlabel="inference iteration k", ylabel="V(λ_k) - V(λ_0)", title="Improvement of inference per iteration")
    return save(figure, out, "improvement")


def draw_growth(growth: Sequence[Growth], logged: Sequence[Logged], out: Path) -> dict[str, str]:
    """How the improvement grew: its curve at each checkpoint, and what training logged after each iteration."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, rows, by, along in (
        (left, growth, "env_steps", "iteration"),
        (right, logged, "iteration", "env_steps"),
    ):
        groups = sorted({getattr(row, by) for row in rows})
        for group, colour in zip(groups, plt.colormaps["viridis"](np.linspace(0.85, 0.1, len(groups))), strict=True):
            mine = [row for row in rows if getattr(row, by) == group]
            label = f"{group:,} steps" if by == "env_steps" else f"k = {group}"
            axes.plot([getattr(row, along) for row in mine], [row.mean for row in mine], color=colour, label=label)
        if groups:
            axes.legend(fontsize="small", frameon=False)
    left.set(xlabel="inference iteration k", ylabel="V(λ_k) - V(λ_0)", title="At each checkpoint")
    right.xaxis.set_major_locator(MaxNLocator(5))
    right.set(xlabel="environment steps", title="As training logged it, with its own draws")
    return save(figure, out, "improvement_training")


def draw_gap(found: Gaps, out: Path) -> dict[str, str]:
    """The gap of each state in its two parts, from the smallest up, and their means with intervals."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=(3, 1), layout="constrained")
    rows = sorted(found.rows, key=lambda row: row.total)
    low = np.maximum([row.approximation for row in rows], 0.0)
    high = np.maximum([row.amortisation for row in rows], 0.0)
    at = np.arange(1, len(rows) + 1)
    left.bar(at, low, width=1.0, color=GREY, label="approximation: the family")
    left.bar(at, high, width=1.0, bottom=low, color=BLUE, label="amortisation: the optimiser")
    bounded = "α log Z by quadrature" if found.exact else "α log Z bounded from below by importance sampling"
    left.set(xlabel="state, from the smallest gap up", ylabel="α KL(q ‖ posterior)", title=f"Inference gap; {bounded}")
    left.legend(fontsize="small", frameon=False)
    for i, (name, colour) in enumerate((("approximation", GREY), ("amortisation", BLUE), ("total", "black"))):
        _point(right, i, interval([getattr(row, name) for row in found.rows]), colour)
    right.set_xticks(range(3), ["approxi-\nmation", "amorti-\nsation", "total"])
    right.set(xlim=(-0.6, 2.6), ylim=(min(0.0, right.get_ylim()[0]), None), title="mean over states")
    return save(figure, out, "gap")


def draw_compared(found: Comparison, out: Path) -> dict[str, str]:
    """What is missing to the best V, against evaluations of the critic and against wall-clock."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    least = 0.3 * min((row.missing for row in found.rows if row.missing > 0), default=1.0)
    for name in dict.fromkeys(row.optimiser for row in found.rows):
        rows = [row for row in found.rows if row.optimiser == name]
        colour, label = COLOURS.get(name, "black"), LABELS.get(name, name)
        points = [Interval(*(max(x, least) for x in (row.missing, row.missing_low, row.missing_high))) for row in rows]
        if rows[0].evaluations:
            band(left, [row.evaluations for row in rows], points, colour, label)
        else:
            left.axhline(points[0].mean, color=colour, linestyle="--", label=f"{label}: none")
        band(right, [row.milliseconds for row in rows], points, colour, label)
    left.set(xscale="log", yscale="log", xlabel="evaluations of Q̂ in one state", ylabel="best V found - V(λ)")
    right.set(xscale="log", xlabel=f"milliseconds for {found.states} states in one call")
    left.legend(fontsize="small", framealpha=0.85)
    figure.suptitle("Inference optimisers on the same states and critic")
    return save(figure, out, "compare")


def draw_landscape(one: Landscape, out: Path) -> dict[str, str]:
    """V over two elements of λ, and the way of each optimiser."""
    figure, axes = plt.subplots(figsize=(6.2, 4.6), layout="constrained")
    levels = _levels(one.values)
    filled = axes.contourf(one.x, one.y, one.values, levels=levels, cmap="Greys_r", extend="min")
    axes.contour(one.x, one.y, one.values, levels=levels, colors="white", linewidths=0.4)
    figure.colorbar(
        filled,
        ax=axes,
        label="V(s; q)",
        format="%.5g",
        spacing="proportional",
        ticks=MaxNLocator(6).tick_values(levels[0], levels[-1]),
    )
    for name, path in one.paths.items():
        label = LABELS.get(name, name)
        axes.plot(*path.T, color="white", linewidth=3.2)
        axes.plot(*path.T, color=COLOURS.get(name, "black"), linewidth=1.6, marker="o", markersize=3, label=label)
        axes.plot(*path[-1], color=COLOURS.get(name, "black"), marker="*", markersize=13, markeredgecolor="white")
    axes.set(xlim=(one.x[0], one.x[-1]), ylim=(one.y[0], one.y[-1]), xlabel=f"{one.names[0]} of u")
    axes.set(
        ylabel=f"{one.names[1]} of u", title=f"Objective in state {one.state}; the other elements of λ at the best"
    )
    axes.legend(fontsize="small", framealpha=0.85, loc="best")
    return save(figure, out, f"landscape_{one.state}")


def draw_modes(found: Modes, out: Path) -> dict[str, str]:
    """How many modes states have, and where the restarts of the state with the most even shares ended."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    counts = found.counts
    left.hist(counts, bins=np.arange(0.5, counts.max() + 1.5), color=BLUE, rwidth=0.8)
    left.set_xticks(range(1, int(counts.max()) + 1))
    left.set(xlabel="distinct modes with at least 1 % of the mass", ylabel="states", title="From random restarts")
    state = int(np.argmin(found.share.max(1)))
    action, value = found.action[state], found.value[state]
    best, shares = found.distinct[state], found.share[state]
    if action.shape[1] > 1:
        x, y = np.argsort(-np.ptp(action, axis=0), kind="stable")[:2]
        points = right.scatter(action[:, x], action[:, y], c=value, cmap="viridis", s=36)
        right.set(xlabel=f"action {x + 1}", ylabel=f"action {y + 1}", xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
        places = action[:, [x, y]]
        figure.colorbar(points, ax=right, label="V(s; q)")
    else:
        places = np.stack([action[:, 0], value], -1)
        right.scatter(*places.T, color=BLUE, s=36)
        right.set(xlabel="action", ylabel="V(s; q)", xlim=(-1.1, 1.1))
    right.scatter(*places[best].T, s=110, facecolors="none", edgecolors=ORANGE, linewidths=1.5)
    for place, share in zip(places[best], shares[best], strict=True):
        offset = {"xytext": (6, 6), "textcoords": "offset points"}
        right.annotate(f"{share:.0%}", place, **offset, color=ORANGE, fontsize="small")
    right.set_title(f"State {state}: ends of restarts, shares of modes")
    right.margins(y=0.12)
    return save(figure, out, "modes")


def draw_transfer(found: Sequence[Transfer], out: Path) -> dict[str, str]:
    """What is missing under each objective, by how long inference goes on."""
    figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    objectives = list(dict.fromkeys(row.objective for row in found))
    efforts = sorted({row.iterations for row in found})
    for i, (effort, colour) in enumerate(zip(efforts, (BLUE, ORANGE), strict=False)):
        rows = [row for row in found if row.iterations == effort]
        at = np.arange(len(rows)) + 0.15 * (i - (len(efforts) - 1) / 2)
        for x, row in zip(at, rows, strict=True):
            _point(axes, x, Interval(row.missing, row.low, row.high), colour)
        axes.plot([], [], color=colour, marker="o", label=f"{effort} iterations" if effort else "direct")
    axes.set_xticks(range(len(objectives)), [name.replace(" at ", " at\n") for name in objectives])
    axes.set(ylabel="best V found - V(λ)", ylim=(min(0.0, axes.get_ylim()[0]), None))
    axes.set_title("Objectives that inference was not trained for")
    axes.legend(fontsize="small", frameon=False)
    return save(figure, out, "transfer")


def draw_staleness(found: Sequence[Staleness], out: Path) -> dict[str, str]:
    """What a kept λ misses against how long it waited, before a visit and after each of its iterations."""
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    iterations = sorted({row.iterations for row in found if row.start == KEPT})
    for k, colour in zip(iterations, plt.colormaps["viridis"](np.linspace(0.85, 0.1, len(iterations))), strict=True):
        rows = [row for row in found if row.start == KEPT and row.iterations == k]
        points = [Interval(row.missing, row.low, row.high) for row in rows]
        band(axes, [row.env_steps for row in rows], points, colour, f"{k} iterations later" if k else "as kept")
    for row in (row for row in found if row.start == AFRESH):
        axes.axhline(row.missing, color=GREY, linestyle="--", label=f"afresh, {row.iterations} iterations")
    axes.set(xlabel="environment steps since it was kept", ylabel="best V found - V(λ)", title="λ that replay keeps")
    axes.legend(fontsize="small", frameon=False)
    return save(figure, out, "staleness")


def draw_calibration(found: Calibration, out: Path) -> dict[str, str]:
    """Q̂ against the return of every pair, and the mean error for each pessimism."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    predicted, earned = ([getattr(pair, name) for pair in found.pairs] for name in ("predicted", "earned"))
    left.scatter(earned, predicted, s=6, color=BLUE, alpha=0.4, linewidths=0)
    ends = min(predicted + earned), max(predicted + earned)
    left.plot(ends, ends, color=GREY, linewidth=1)
    left.set(
        xlabel="\n".join(textwrap.wrap(f"Monte-Carlo {found.kind}, G", 50)),
        ylabel="Q̂(s, a)",
        title="At the pairs that the policy visits",
    )
    others = [row for row in found.biases if not row.own]
    if others:
        band(right, [row.beta for row in others], others, BLUE)
    own = found.biases[0]
    at = own.beta if np.isfinite(own.beta) else 0.0
    _point(right, at, Interval(own.mean, own.low, own.high), ORANGE)
    side = {"xytext": (-6, 8), "ha": "right"} if at > 1 else {"xytext": (6, 8), "ha": "left"}
    place = (at, own.mean)
    right.annotate("own β", place, textcoords="offset points", color=ORANGE, fontsize="small", **side)
    right.axhline(0.0, color=GREY, linewidth=1)
    right.set(xlabel="pessimism β in Q̂ = mean - β std", ylabel="mean of Q̂ - G", title="Over-estimation")
    right.margins(x=0.12)
    return save(figure, out, "calibration")


def _point(axes: Any, x: float, found: Interval, colour: str) -> None:
    error = [[max(found.mean - found.low, 0.0)], [max(found.high - found.mean, 0.0)]]
    axes.errorbar([x], [found.mean], yerr=None if np.isnan(error).any() else error, color=colour, marker="o", capsize=3)


def _levels(values: Any) -> Any:
    """Contours that are dense near the summit: V falls off far faster away from it than it differs there."""
    high, low = float(values.max()), float(np.quantile(values, 0.1))
    return high - max(high - low, 1e-9) * np.linspace(1.0, 0.0, 16) ** 2
