"""What more seeds of iterative inference on imagined steps say, by the criteria of results/likelihoods.

It reads the scores.csv of scores.py, with direct and iterative runs of one task, and writes seeds.csv: the difference
within a seed on the seeds that were not seen before, and the ratio over all seeds at the level of a second look. Run as

    python experiments/likelihoods/seeds.py results/likelihoods/upright
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scores import DIRECT, ITERATIVE, Score, ratio_of

from estep.comparing.statistics import bootstrap
from estep.instruments.interval import interval
from estep.runs import tables

SEEN = 5
"""Seeds 0 to 4 answered before the others were run."""
SECOND_LOOK = 0.975


class Answer(NamedTuple):
    """One number with its interval."""

    env: str
    what: str
    seeds: int
    level: float
    mean: float
    low: float
    high: float


def answers(found: Sequence[Score]) -> Iterator[Answer]:
    """The two answers on each task."""
    for env in dict.fromkeys(one.env for one in found):
        direct, iterative = (
            {one.seed: one.score for one in found if (one.env, one.inference) == (env, way)}
            for way in (DIRECT, ITERATIVE)
        )
        seeds = sorted(direct.keys() & iterative.keys())
        new = [seed for seed in seeds if seed >= SEEN]
        apart = interval([iterative[seed] - direct[seed] for seed in new])
        yield Answer(env, "difference within a new seed", len(new), 0.95, *apart)
        middle = float(np.mean([direct[seed] for seed in new]))
        relative = ((middle + limit) / middle for limit in apart)
        yield Answer(env, "ratio of the means of the new seeds", len(new), 0.95, *relative)
        groups = [[np.array([way[seed] for seed in seeds])] for way in (iterative, direct)]
        low, high = bootstrap(ratio_of, *groups, tail=(1 - SECOND_LOOK) / 2)
        yield Answer(env, "ratio of interquartile means", len(seeds), SECOND_LOOK, float(ratio_of(*groups)), low, high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of scores.csv, and of the table")
    out = parser.parse_args().out
    found = tables.read(out / "scores.csv", Score)
    tables.write(out / "seeds.csv", Answer._fields, answers(found))


if __name__ == "__main__":
    main()
