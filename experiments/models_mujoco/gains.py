"""What inference gains on returns of imagined steps beside what it gains on the critic of the same run.

It reads the tables of realised gains that `run.sh` collects: FOLDER and FOLDER_on_critic in OUT, for each FOLDER that
has both. It writes gains.csv: for each environment and number of iterations the mean over runs of `mve` on the one and
on the other, and the mean of the difference within a run, with 95 % intervals (Student's t over runs). Run as

    python experiments/models_mujoco/gains.py OUT
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from estep.instruments.interval import interval
from estep.runs import tables

FOLDERS = ("steps", "upright")
ALGORITHM = "mve"


class Gain(NamedTuple):
    """The gain in return of one number of iterations, means over runs with their 95 % intervals."""

    env: str
    iterations: int
    runs: int
    imagined: float
    """On returns of imagined steps."""
    imagined_low: float
    imagined_high: float
    critic: float
    critic_low: float
    critic_high: float
    difference: float
    """Within a run: on imagined steps less on the critic."""
    difference_low: float
    difference_high: float


def gains(path: Path) -> dict[tuple[str, int], dict[int, float]]:
    """By environment and number of iterations: the realised gain of each seed."""
    found: dict[tuple[str, int], dict[int, float]] = {}
    for row in tables.cells(path):
        if row["algorithm"] == ALGORITHM:
            found.setdefault((row["env"], int(row["iterations"])), {})[int(row["seed"])] = float(row["realised"])
    return found


def compared(out: Path) -> Iterator[Gain]:
    """The rows of gains.csv."""
    for folder in FOLDERS:
        paths = [out / name / "realised.csv" for name in (folder, f"{folder}_on_critic")]
        if not all(path.exists() for path in paths):
            continue
        imagined, critic = (gains(path) for path in paths)
        for env, iterations in sorted(imagined.keys() & critic.keys()):
            one, other = imagined[env, iterations], critic[env, iterations]
            seeds = sorted(one.keys() & other.keys())
            means = interval([one[seed] for seed in seeds]), interval([other[seed] for seed in seeds])
            difference = interval([one[seed] - other[seed] for seed in seeds])
            yield Gain(env, iterations, len(seeds), *means[0], *means[1], *difference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="results/models_mujoco, or where run.sh wrote")
    out = parser.parse_args().out
    tables.write(out / "gains.csv", Gain._fields, compared(out))


if __name__ == "__main__":
    main()
