"""Collects the scores of runs of several tasks: one line for each run, and the comparison that the page speaks of.

A score is the mean over the evaluations of a run of its mean return over tasks; tasks that know when they are solved
also have the share of successful episodes. `python table.py RUNS OUT` reads RUNS/SET/LABEL/SEED and writes scores.csv,
summary.csv and, of each task that knows it, solved.csv. With `--before FOLDER` the tables in that folder, of runs on
another machine, are added.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple, TypeAlias

from estep.instruments.interval import interval
from estep.runs import tables

SETS = ("fork", "corridor", "cartpole", "walker", "transfer", "cheetah", "metaworld")
ALONE, ONE_HOT = "independent", "sac"
MARGIN = 0.1
Key: TypeAlias = tuple[str, str, int]


class Score(NamedTuple):
    """What one algorithm reached on one set with one seed."""

    set: str
    algorithm: str
    seed: int
    score: float
    final: float
    """The mean return over tasks of the last evaluation."""
    steps: int
    success: str
    """The share of successful episodes of the last evaluation, the mean over tasks; empty if tasks do not know."""


class Point(NamedTuple):
    """One evaluation of a run: means over tasks."""

    env_steps: int
    mean: float
    success: float
    """Not a number where tasks do not know it."""


def finished(runs: Path) -> Iterator[tuple[Key, Path]]:
    """Set, algorithm and seed of all finished runs below a folder, with their folders."""
    for path in sorted(runs.glob("*/*/*/*/*/*/eval.csv")):
        name, label, seed = path.relative_to(runs).parts[:3]
        if name in SETS and json.loads((path.parent / "run.json").read_text("utf-8"))["status"] == "done":
            yield (name, ALONE if label.startswith(ALONE) else label, int(seed)), path.parent


def curve(run: Path) -> list[Point]:
    """The evaluations of a run."""
    rows = [row for row in tables.cells(run / "eval.csv") if row.get("task", "all") == "all"]
    return [Point(int(row["env_steps"]), float(row["mean"]), float(row["success"] or "nan")) for row in rows]


def scores(runs: Path) -> list[Score]:
    """The scores of all finished runs below a folder. The runs of each task alone are one score."""
    parts: dict[Key, list[list[Point]]] = defaultdict(list)
    for key, run in finished(runs):
        parts[key].append(curve(run))
    return [score_of(*key, curves) for key, curves in sorted(parts.items())]


def score_of(name: str, algorithm: str, seed: int, curves: Sequence[Sequence[Point]]) -> Score:
    """The score of one run of all tasks, or of one run of each task alone."""
    last = [one[-1] for one in curves]
    area, final = mean(mean(point.mean for point in one) for one in curves), mean(point.mean for point in last)
    success = mean(point.success for point in last)
    steps = sum(point.env_steps for point in last)
    return Score(name, algorithm, seed, area, final, steps, "" if math.isnan(success) else f"{success:.4g}")


class Solved(NamedTuple):
    """The last evaluation of a task in one run."""

    set: str
    algorithm: str
    seed: int
    task: str
    """Its name, or its environment where it was learned alone."""
    mean: float
    success: float


def solved(runs: Path) -> Iterator[Solved]:
    """The last evaluations of all finished runs below a folder whose tasks know when they are solved."""
    for (name, algorithm, seed), run in finished(runs):
        alone = json.loads((run / "config.json").read_text("utf-8"))["env"]["id"]
        rows = list(tables.cells(run / "eval.csv"))
        for row in rows:
            task = row.get("task", alone)
            if row["env_steps"] == rows[-1]["env_steps"] and row["success"] and task != "all":
                yield Solved(name, algorithm, seed, task, round_to(float(row["mean"])), float(row["success"]))


def made_before(folder: Path) -> list[Score]:
    """The scores that `main` wrote into a folder."""
    return tables.read(folder / "scores.csv", Score, lambda line: {"success": "", **line})


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
        known = [float(one.success) for one in mine.values() if one.success]
        line["success"] = f"{mean(known):.3g}" if known else ""
        line["seeds_above_independent"] = above(mine, by_seed.get((name, ALONE), {}))
        line["seeds_above_one_hot"] = above(mine, by_seed.get((name, ONE_HOT), {}), 0.0)
        lines.append(line)
    return lines


def above(mine: Mapping[int, Score], others: Mapping[int, Score], margin: float = MARGIN) -> str:
    """On how many seeds of both a score is above the other by more than a fraction of its absolute value."""
    both = mine.keys() & others.keys()
    count = sum(mine[seed].score > others[seed].score + margin * abs(others[seed].score) for seed in both)
    return f"{count} of {len(both)}" if both else ""


def round_to(number: float, digits: int = 6) -> float:
    """A number with so many significant digits."""
    return float(f"{number:.{digits}g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--before", type=Path)
    args = parser.parse_args()
    every = [*(made_before(args.before) if args.before else []), *scores(args.runs)]
    found = list({one[:3]: one for one in every}.values())
    rows = [one._replace(score=round_to(one.score), final=round_to(one.final)) for one in found]
    tables.write(args.out / "scores.csv", Score._fields, rows)
    before = args.before / "solved.csv" if args.before else None
    known = [*(tables.read(before, Solved) if before and before.is_file() else []), *solved(args.runs)]
    tables.write(args.out / "solved.csv", Solved._fields, {one[:4]: one for one in known}.values())
    lines = summary(found)
    tables.write(args.out / "summary.csv", list(lines[0]), [list(line.values()) for line in lines])


if __name__ == "__main__":
    main()
