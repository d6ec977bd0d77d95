"""Scores of runs with a model beside those without one, at equal steps and at equal wall time.

It writes evaluations_timed.csv, the evaluations of the runs with the seconds at which they were made, and scores.csv,
the differences of the mean scores. The table of another machine's runs may be given, whose runs are added. Run as

    python experiments/models_mujoco/scores.py OUT steps RUN ... [--before TABLE]
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from estep.instruments.interval import difference
from estep.plots import labels
from estep.runs import tables

LAST = 3
"""Evaluations at the end that make the score of a run."""


class Timed(NamedTuple):
    """One evaluation of a run."""

    part: str
    env: str
    algorithm: str
    seed: int
    env_steps: int
    mean: float
    wall_s: float
    """Seconds of training until then."""


class Difference(NamedTuple):
    """What one group of runs scores more than another, with its 95 % interval (Welch)."""

    env: str
    algorithm: str
    against: str
    at: str
    runs: int
    runs_against: int
    mean: float
    mean_against: float
    difference: float
    low: float
    high: float
    ratio: float


Runs = Mapping[tuple[str, str, str], Mapping[int, Sequence[Timed]]]
"""By part, environment and algorithm: the evaluations of each seed."""
PAIRS = (
    (("steps", "mve"), ("steps", "sac")),
    (("search", "pp-smc"), ("search", "mpo")),
    *(((f"search_anew_{chosen}", "pp-smc"), ("search", "mpo")) for chosen in ("1-0.25", "4-0.25", "8-0.25")),
    (("wrong_head", "mve"), ("steps", "mve")),
    (("wider", "mve"), ("wider", "sac")),
    (("wider", "mve"), ("steps", "sac")),
    (("upright", "mve"), ("upright", "sac")),
)


def timed(part: str, run: Path) -> Iterator[Timed]:
    """The evaluations of a run."""
    env, algorithm, _, seed = labels.run_label(run)
    with (run / "eval.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            steps, mean, wall = int(row["env_steps"]), float(row["mean"]), float(row["wall_s"])
            yield Timed(part, env, algorithm, seed, steps, mean, wall)


def read(table: Path) -> list[Timed]:
    """The lines of a table that `main` wrote."""
    with table.open(newline="", encoding="utf-8") as file:
        return [
            Timed(part, env, algorithm, int(seed), int(steps), float(mean), float(wall))
            for part, env, algorithm, seed, steps, mean, wall in list(csv.reader(file))[1:]
        ]


def grouped(rows: Sequence[Timed]) -> Runs:
    """The evaluations by what they are of, in the order of their steps. Of one that is given twice, the last counts."""
    newest = {row[:5]: row for row in rows}
    found: dict[tuple[str, str, str], dict[int, list[Timed]]] = {}
    for row in sorted(newest.values()):
        found.setdefault(row[:3], {}).setdefault(row.seed, []).append(row)
    return found


def score(run: Sequence[Timed], seconds: float = np.inf) -> float:
    """The mean of the last evaluations up to a time."""
    return float(np.mean([row.mean for row in run if row.wall_s <= seconds][-LAST:]))


def differences(runs: Runs) -> Iterator[Difference]:
    """Each pair of groups of which there are runs, on each environment: at equal steps, and of two algorithms by the
    seconds too that the second one took for all its steps with the same seed."""
    for (part, algorithm), (other_part, other) in PAIRS:
        for env in sorted({env for name, env, _ in runs if name == part}):
            mine, against = runs.get((part, env, algorithm), {}), runs.get((other_part, env, other), {})
            both = sorted(mine.keys() & against.keys())
            if not both:
                continue
            theirs = [score(against[seed]) for seed in both]
            equal = {"equal steps": [score(mine[seed]) for seed in both]}
            if algorithm != other:
                equal["equal time"] = [score(mine[seed], against[seed][-1].wall_s) for seed in both]
            for at, scores in equal.items():
                means = float(np.mean(scores)), float(np.mean(theirs))
                found = difference(scores, theirs)
                counts = len(scores), len(theirs)
                name = algorithm if part == other_part else f"{algorithm}, {part}"
                yield Difference(env, name, other, at, *counts, *means, *found, means[0] / means[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("part")
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--before", type=Path, help="an evaluations_timed.csv whose runs are added")
    args = parser.parse_args()
    path = args.out / "evaluations_timed.csv"
    rows = [row for table in (args.before, path) if table and table.is_file() for row in read(table)]
    runs = grouped([*rows, *(row for run in args.runs for row in timed(args.part, run))])
    tables.write(path, Timed._fields, [row for seeds in runs.values() for run in seeds.values() for row in run])
    tables.write(args.out / "scores.csv", Difference._fields, differences(runs))


if __name__ == "__main__":
    main()
