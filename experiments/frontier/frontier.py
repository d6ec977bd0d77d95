"""The frontier of cheap inference: what each form misses against what an update of it costs, as a figure and a CSV.

    python experiments/frontier/frontier.py results/frontier results/frontier/bandit_relu.csv

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
from matplotlib.ticker import LogLocator, NullFormatter

from estep.plots.curves import GREY
from estep.runs import tables

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
    """One panel a bandit, one colour a variant."""
    bandits = sorted({form.bandit for form in found})
    columns = min(len(bandits), 2)
    rows = -(-len(bandits) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.6 * rows + 0.7), layout="constrained")
    variants = dict.fromkeys(form.variant for form in sorted(found, key=lambda form: form.cost))
    colour = {variant: f"C{i}" for i, variant in enumerate(variants)}
    shown = {}
    for axes, bandit in zip(figure.subplots(rows, columns, squeeze=False).flat, bandits, strict=False):
        here = [form for form in found if form.bandit == bandit]
        lowest = 0.8 * min(form.lowest for form in here)
        axes.fill_between([0.9, MOST_COST], lowest, MOST_GAP, color=GREY, alpha=0.15, linewidth=0)
        for form in here:
            axes.plot([form.cost] * 2, [form.lowest, form.highest], color=colour[form.variant], linewidth=1)
            shown[form.variant] = axes.plot(form.cost, form.ratio, marker="o", color=colour[form.variant])[0]
        axes.set(xscale="log", yscale="log", xlim=(0.9, 70), ylim=(lowest, None), title=bandit)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="cost of an update, in direct updates", ylabel=f"gap at k = {ITERATIONS}, to that of 5 x 10")
    figure.legend(shown.values(), shown, loc="outside lower center", ncols=columns, fontsize="small", frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("tables", type=Path, nargs="+")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found = sorted(forms(args.tables), key=lambda form: (form.bandit, form.cost))
    tables.write(args.out / "frontier.csv", Form._fields, [[*form] for form in found])
    draw(found, args.out / "frontier.png")
    for form in found:
        print(f"{form.bandit:10} {form.variant:34} {form.cost:5.1f} x   gap {form.gap:.3g}, {form.ratio:.2f} of 5 x 10")


if __name__ == "__main__":
    main()
