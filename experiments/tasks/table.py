"""Collects the scores of runs of several tasks: one line for each run, and the comparison that the page speaks of.

A score is the mean over the evaluations of a run of its mean return over tasks. `python table.py RUNS OUT` reads
RUNS/SET/LABEL/SEED and writes scores.csv and summary.csv. With `--before FOLDER` the scores in that folder, of runs on
another machine, are added.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from estep.instruments.interval import interval

SETS = ("fork", "corridor", "cartpole", "walker", "transfer", "cheetah")
ALONE, ONE_HOT = "independent", "sac"
MARGIN = 0.1


class Score(NamedTuple):
    """What one algorithm reached on one set with one seed."""

    set: str
    algorithm: str
    seed: int
    score: float
    final: float
    """The mean return over tasks of the last evaluation."""
    steps: int


def curve(run: Path) -> list[tuple[int, float]]:
    """Environment steps and mean return over tasks of every evaluation of a run."""
    with (run / "eval.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [(int(row["env_steps"]), float(row["mean"])) for row in rows if row.get("task", "all") == "all"]


def scores(runs: Path) -> list[Score]:
    """The scores of all finished runs below a folder. The runs of each task alone are one score."""
    parts: dict[tuple[str, str, int], list[list[tuple[int, float]]]] = defaultdict(list)
    for path in sorted(runs.glob("*/*/*/*/*/*/eval.csv")):
        name, label, seed = path.relative_to(runs).parts[:3]
        if name in SETS and json.loads((path.parent / "run.json").read_text("utf-8"))["status"] == "done":
            parts[name, ALONE if label.startswith(ALONE) else label, int(seed)].append(curve(path.parent))
    return [
        Score(*key, mean(mean(y for _, y in one) for one in curves), mean(one[-1][1] for one in curves), steps(curves))
        for key, curves in sorted(parts.items())
    ]


def made_before(folder: Path) -> list[Score]:
    """The scores that `main` wrote into a folder."""
    with (folder / "scores.csv").open(newline="", encoding="utf-8") as file:
        return [
            Score(name, algorithm, int(seed), float(score), float(final), int(steps))
            for name, algorithm, seed, score, final, steps in list(csv.reader(file))[1:]
        ]


def steps(curves: Sequence[Sequence[tuple[int, float]]]) -> int:
    """The steps of all tasks together."""
    return sum(one[-1][0] for one in curves)


def summary(found: Sequence[Score]) -> list[dict[str, str]]:
    """For each set and algorithm the mean over seeds, its interval, and on how many seeds it is above others."""
    by_seed: dict[tuple[str, str], dict[int, Score]] = defaultdict(dict)
    for one in found:
        by_seed[one.set, one.algorithm][one.seed] = one
    lines = []
    for (name, algorithm), mine in by_seed.items():
        low = interval([one.score for one in mine.values()])
        line = {"set": name, "algorithm": algorithm, "seeds": str(len(mine))}
        line |= {"score": f"{low.mean:.5g}", "low": f"{low.low:.5g}", "high": f"{low.high:.5g}"}
        line["final"] = f"{mean(one.final for one in mine.values()):.5g}"
        line["seeds_above_independent"] = above(mine, by_seed.get((name, ALONE), {}))
        line["seeds_above_one_hot"] = above(mine, by_seed.get((name, ONE_HOT), {}), 0.0)
        lines.append(line)
    return lines


def above(mine: Mapping[int, Score], others: Mapping[int, Score], margin: float = MARGIN) -> str:
    """On how many seeds of both a score is above the other by more than a fraction of its absolute value."""
    both = mine.keys() & others.keys()
    count = sum(mine[seed].score > others[seed].score + margin * abs(others[seed].score) for seed in both)
    return f"{count} of {len(both)}" if both else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--before", type=Path)
    args = parser.parse_args()
    every = [*(made_before(args.before) if args.before else []), *scores(args.runs)]
    found = list({one[:3]: one for one in every}.values())
    with (args.out / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(Score._fields)
        table.writerows((*one[:3], f"{one.score:.6g}", f"{one.final:.6g}", one.steps) for one in found)
    lines = summary(found)
    with (args.out / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        named = csv.DictWriter(file, list(lines[0]))
        named.writeheader()
        named.writerows(lines)


if __name__ == "__main__":
    main()
