"""Ratios over tasks whose returns differ in size: each score is divided by the mean on its task of direct inference
with the plain critic, or with another where there is no run of it, of the seeds that were run first if there are any.

It reads the evaluations.csv of `estep compare` and writes over_tasks.csv: the ratios of the seeds that were run first
at the level of a second look, and those of the new seeds alone, after so many steps each as --at says. Run as

    python experiments/likelihoods/over_tasks.py results/likelihoods/three_tasks --at 100000
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scores import DIRECT, PLAIN, Ratio, Score, ratios, scores
from seeds import SECOND_LOOK, SEEN

from estep.comparing.statistics import TAIL
from estep.plots.learning_curves import Point, points
from estep.runs import tables

COLUMNS = ("env_steps", "seeds", "level", *Ratio._fields)


def relative(found: Sequence[Score]) -> list[Score]:
    """The scores, each divided by the mean of direct inference on its task: with the plain critic if it is there."""
    direct: dict[str, list[Score]] = defaultdict(list)
    for one in found:
        if one.inference == DIRECT:
            direct[one.env].append(one)
    units = {}
    for env, runs in direct.items():
        plain = [one for one in runs if one.critic == PLAIN] or runs
        first = [one for one in plain if one.seed < SEEN] or plain
        units[env] = float(np.mean([one.score for one in first]))
    return [one._replace(score=one.score / units[one.env]) for one in found if one.env in units]


def rows(found: Sequence[Score]) -> Iterator[tuple[Any, ...]]:
    """The ratios of the first seeds, and of the others."""
    first, new = ([one for one in found if (one.seed < SEEN) == early] for early in (True, False))
    for ratio in ratios(first, (1 - SECOND_LOOK) / 2):
        yield "first", SECOND_LOOK, *ratio
    for ratio in ratios(new):
        yield "new", 1 - 2 * TAIL, *ratio


def over_time(found: Sequence[Point], at: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """The same of each run as it was after so many steps."""
    for steps in at:
        for row in rows(relative(scores([point for point in found if point.env_steps <= steps]))):
            yield steps, *row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of evaluations.csv, and of the table")
    parser.add_argument("--at", type=int, nargs="+", required=True, help="numbers of environment steps")
    args = parser.parse_args()
    tables.write(args.out / "over_tasks.csv", COLUMNS, over_time(points(args.out), args.at))


if __name__ == "__main__":
    main()
