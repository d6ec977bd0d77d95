"""What iterative inference returns once replay keeps no λ that ran away, beside what it returned before.

It reads scores.csv, which scores.py wrote, of the runs since then, and that of the runs before, and writes chain.csv.
Run as

    python experiments/likelihoods/chain.py results/likelihoods/chain results/likelihoods/three_tasks
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scores import DIRECT, ITERATIVE, PLAIN, Score, ratio_of

from estep.comparing.statistics import bootstrap
from estep.instruments.interval import interval
from estep.runs import tables


class Answer(NamedTuple):
    """The interquartile mean of the new runs over that of others, and the difference within a seed."""

    env: str
    over_critic: str
    over_inference: str
    runs: int
    ratio: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float


def answers(new: Sequence[Score], before: Sequence[Score]) -> Iterator[Answer]:
    """The new runs over the same ones before, and over direct inference with the same pessimism and with less."""
    for env, critic in dict.fromkeys((one.env, one.critic) for one in before if one.inference == ITERATIVE):
        mine = {one.seed: one.score for one in new if (one.env, one.critic, one.inference) == (env, critic, ITERATIVE)}
        for over in ((critic, ITERATIVE), (critic, DIRECT), (PLAIN, DIRECT)):
            others = {one.seed: one.score for one in before if (one.env, one.critic, one.inference) == (env, *over)}
            seeds = sorted(mine.keys() & others.keys())
            if not seeds:
                continue
            groups = [[np.array([group[seed] for seed in seeds])] for group in (mine, others)]
            low, high = bootstrap(ratio_of, *groups)
            apart = interval([mine[seed] - others[seed] for seed in seeds])
            yield Answer(env, *over, len(seeds), float(ratio_of(*groups)), float(low), float(high), *apart)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of scores.csv, and of the table")
    parser.add_argument("before", type=Path, help="the folder of the scores.csv of the runs before")
    args = parser.parse_args()
    new, before = (tables.read(folder / "scores.csv", Score) for folder in (args.out, args.before))
    tables.write(args.out / "chain.csv", Answer._fields, answers(new, before))


if __name__ == "__main__":
    main()
