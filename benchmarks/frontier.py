"""The frontier of cheap inference: what each form misses against what an update of it costs, as a figure and a CSV.

    python benchmarks/frontier.py results/frontier results/bandit_relu.csv

Reads tables of `bandit_table.py`, one or more, each with 5 x 10 on every seed. A point is a variant: matrix products of
an update, in those of an update with direct inference, and the gap after five iterations with the draws of acting, its
mean over seeds to that of 5 x 10, with the lowest and highest ratio of a seed. Shaded: at most four direct updates at a
gap at most 1.25 times that of 5 x 10.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from estep.experiment import sheet

BASE, CHEAPEST = "5x10 log_sign", "direct"
ITERATIONS, ACTING = 5, "10"
MOST_COST, MOST_GAP = 4.0, 1.25


class Form(NamedTuple):
    """A variant on one bandit, over seeds."""

    bandit: str
    variant: str
    cost: float
    """In direct updates."""
    seeds: int
    gap: float
    """In units of reward, the mean."""
    ratio: float
    """Of the means, to 5 x 10."""
    lowest: float
    highest: float


def forms(tables: Sequence[Path]) -> Iterator[Form]:
    """Each variant of each bandit."""
    gaps: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    gflop: dict[str, float] = {}
    for table in tables:
        with table.open(newline="") as file:
            for line in csv.DictReader(file):
                if line["objective"] == "training" and line["samples"] == ACTING:
                    gaps[line["bandit"], line["variant"]][line["seed"]] = float(line[f"gap_{ITERATIONS}"])
                    gflop[line["variant"]] = float(line["gflop"])
    for (bandit, variant), mine in gaps.items():
        base = np.array([gaps[bandit, BASE][seed] for seed in mine])
        own, cost = np.array(list(mine.values())), gflop[variant] / gflop[CHEAPEST]
        ratios, gap = own / base, float(own.mean())
        yield Form(bandit, variant, cost, len(own), gap, gap / base.mean(), float(ratios.min()), float(ratios.max()))


def draw(found: Sequence[Form], path: Path) -> None:
    """One panel a bandit."""
    bandits = sorted({form.bandit for form in found})
    columns = min(len(bandits), 2)
    rows = -(-len(bandits) // columns)
    figure = Figure(figsize=(5.2 * columns, 4.2 * rows), layout="constrained")
    for axes, bandit in zip(figure.subplots(rows, columns, squeeze=False).flat, bandits, strict=False):
        here = [form for form in found if form.bandit == bandit]
        lowest = 0.8 * min(form.lowest for form in here)
        axes.fill_between([0.9, MOST_COST], lowest, MOST_GAP, color="C2", alpha=0.12, linewidth=0)
        for form in here:
            axes.plot([form.cost] * 2, [form.lowest, form.highest], color="C0", linewidth=1)
            axes.plot(form.cost, form.ratio, marker="o", markersize=4, color="C0")
            axes.annotate(form.variant, (form.cost, form.ratio), (4, 4), textcoords="offset points", fontsize=7)
        axes.set(xscale="log", yscale="log", xlim=(0.9, 70), ylim=(lowest, None), title=bandit)
        for ticks in (axes.xaxis.set_major_formatter, axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            ticks("{x:g}")
        axes.set(xlabel="cost of an update, in direct updates", ylabel=f"gap at k = {ITERATIONS}, to that of 5 x 10")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("tables", type=Path, nargs="+")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found = sorted(forms(args.tables), key=lambda form: (form.bandit, form.cost))
    sheet.write(args.out / "frontier.csv", Form._fields, [[*form] for form in found])
    draw(found, args.out / "frontier.png")
    for form in found:
        print(f"{form.bandit:10} {form.variant:34} {form.cost:5.1f} x   gap {form.gap:.3g}, {form.ratio:.2f} of 5 x 10")


if __name__ == "__main__":
    main()
