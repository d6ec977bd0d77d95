"""What inference gains on returns of imagined steps beside what it gains on the critic of the same run.

It reads the tables of realised gains that `run.sh` collects: FOLDER and FOLDER_on_critic in OUT, for each FOLDER that
has both. It writes gains.csv: for each environment and number of iterations the mean over runs of `mve` on the one and
on the other, and the mean of the difference within a run, with 95 % intervals (Student's t over runs). Run as

    python experiments/models_mujoco/gains.py OUT
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

from estep.instruments.interval import interval

FOLDERS = ("steps", "upright")
ALGORITHM = "mve"


def gains(path: Path) -> dict[tuple[str, int], dict[int, float]]:
    """By environment and number of iterations: the realised gain of each seed."""
    found: dict[tuple[str, int], dict[int, float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["algorithm"] == ALGORITHM:
                key = row["env"], int(row["iterations"])
                found.setdefault(key, {})[int(row["seed"])] = float(row["realised"])
    return found


def compared(out: Path) -> Iterator[dict[str, object]]:
    """The rows of gains.csv."""
    for folder in FOLDERS:
        paths = [out / name / "realised.csv" for name in (folder, f"{folder}_on_critic")]
        if not all(path.exists() for path in paths):
            continue
        imagined, critic = (gains(path) for path in paths)
        for env, iterations in sorted(imagined.keys() & critic.keys()):
            one, other = imagined[env, iterations], critic[env, iterations]
            seeds = sorted(one.keys() & other.keys())
            figures = {
                "imagined": [one[seed] for seed in seeds],
                "critic": [other[seed] for seed in seeds],
                "difference": [one[seed] - other[seed] for seed in seeds],
            }
            row: dict[str, object] = {"env": env, "iterations": iterations, "runs": len(seeds)}
            for name, values in figures.items():
                mean, low, high = interval(values)
                row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
            yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="results/models_mujoco, or where run.sh wrote")
    out = parser.parse_args().out
    rows = list(compared(out))
    with (out / "gains.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
