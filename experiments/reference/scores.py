"""Differences of what the rows score on each task, with the 95 % interval of Welch.

It reads the evaluations.csv of `estep compare` and writes scores.csv, a row a run, and differences.csv. Run as

    python experiments/reference/scores.py results/reference
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from estep.instruments.interval import difference
from estep.plots.learning_curves import Point, points
from estep.runs import tables

LAST = 5
"""Evaluations at the end that make the score of a run."""
PAIRS = (
    ("sac", "sbx-sac"),
    ("sac_simba2", "sac"),
    ("iterative-sac_simba2", "sac_simba2"),
    *(("sac_simba2", peer) for peer in ("sbx-sac", "sbx-simba", "sbx-crossq", "sbx-tqc", "sbx-droq")),
)
"""The rows of which the differences are given, the first less the second."""


class Score(NamedTuple):
    """What one run returned in the end."""

    env: str
    row: str
    seed: int
    env_steps: int
    score: float


class Difference(NamedTuple):
    """What the runs of a row score more than those of another."""

    env: str
    row: str
    against: str
    runs: int
    runs_against: int
    mean: float
    mean_against: float
    difference: float
    low: float
    high: float
    ratio: float


def scores(found: Sequence[Point]) -> list[Score]:
    """The score of each run."""
    runs: dict[tuple[str, str, int], list[Point]] = defaultdict(list)
    for point in sorted(found, key=lambda point: point.env_steps):
        network = json.loads(point.settings).get("network", "mlp")  # peers have none
        row = point.algorithm if network == "mlp" else f"{point.algorithm}_{network}"
        runs[point.env, row, point.seed].append(point)
    return [
        Score(*about, run[-1].env_steps, float(np.mean([point.mean for point in run[-LAST:]])))
        for about, run in sorted(runs.items())
    ]


def differences(found: Sequence[Score]) -> Iterator[Difference]:
    """Each pair of rows on each task that has runs of both."""
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in found:
        groups[one.env, one.row].append(one.score)
    for env in sorted({one.env for one in found}):
        for row, against in PAIRS:
            mine, theirs = groups[env, row], groups[env, against]
            if mine and theirs:
                means = float(np.mean(mine)), float(np.mean(theirs))
                more = difference(mine, theirs)
                yield Difference(env, row, against, len(mine), len(theirs), *means, *more, means[0] / means[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of evaluations.csv, and of the tables")
    args = parser.parse_args()
    found = scores(points(args.out))
    tables.write(args.out / "scores.csv", Score._fields, found)
    tables.write(args.out / "differences.csv", Difference._fields, differences(found))


if __name__ == "__main__":
    main()
