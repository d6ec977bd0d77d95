"""What inference is worth at the end of the learning runs: means over the runs of each task, critic and way to infer.

It reads the tables of `estep compare --inspected` and writes measured.csv: the inference gap, the over-estimation by
the agent's own pessimism, and by iterations the gain of 25 steps, as predicted, realised, and by displacements of that
size at random. Intervals are Student's, over runs. Run as

    python experiments/likelihoods/measured.py results/likelihoods
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from scores import named

from estep.instruments.interval import interval
from estep.plots import labels
from estep.runs import tables


class Measured(NamedTuple):
    """One quantity, its mean over runs and the 95 % interval."""

    env: str
    critic: str
    inference: str
    quantity: str
    iterations: str
    """Those of the gain; empty for other quantities."""
    runs: int
    mean: float
    low: float
    high: float


Read = tuple[tuple[str, str, str, str, str], float]
"""The task, critic, inference, quantity and iterations of a number, and the number."""


def read(out: Path) -> Iterator[Read]:
    """Every number that was measured in a run. An instrument that measured none has no table."""
    for row in labels.read_lines(out / "gap.csv"):
        yield (*_about(row), "gap", ""), float(row["total"])
    for row in labels.read_lines(out / "calibration.csv"):
        if float(row["beta"]) == json.loads(row["settings"])["beta"]:
            yield (*_about(row), "over-estimation", ""), float(row["mean"])
    for row in labels.read_lines(out / "realised.csv"):
        for quantity in ("predicted", "realised", "control"):
            yield (*_about(row), quantity, row["iterations"]), float(row[quantity])


def _about(row: dict[str, str]) -> tuple[str, str, str]:
    return row["env"], *named(row["algorithm"], row["settings"])


def measured(found: Iterator[Read]) -> Iterator[Measured]:
    """The rows of measured.csv."""
    groups: dict[tuple[str, str, str, str, str], list[float]] = defaultdict(list)
    for about, number in found:
        groups[about].append(number)
    for about, numbers in groups.items():
        yield Measured(*about, len(numbers), *interval(numbers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of the tables")
    out = parser.parse_args().out
    tables.write(out / "measured.csv", Measured._fields, measured(read(out)))


if __name__ == "__main__":
    main()
