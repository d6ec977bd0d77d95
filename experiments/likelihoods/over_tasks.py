"""Ratios over tasks whose returns differ in size: each score is divided by the mean on its task of direct inference
with the plain critic, of the seeds that were run first.

It reads the scores.csv of scores.py and writes over_tasks.csv: the ratios of the seeds that were run first at the level
of a second look, and those of the new seeds alone. Run as

    python experiments/likelihoods/over_tasks.py results/likelihoods/three_tasks
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scores import DIRECT, PLAIN, Ratio, Score, ratios
from seeds import SECOND_LOOK, SEEN

from estep.comparing.statistics import TAIL
from estep.runs import tables

COLUMNS = ("seeds", "level", *Ratio._fields)


def relative(found: Sequence[Score]) -> list[Score]:
    """The scores, each divided by the mean of direct inference on its task."""
    plain: dict[str, list[float]] = defaultdict(list)
    for one in found:
        if (one.critic, one.inference) == (PLAIN, DIRECT) and one.seed < SEEN:
            plain[one.env].append(one.score)
    return [one._replace(score=one.score / float(np.mean(plain[one.env]))) for one in found if one.env in plain]


def rows(found: Sequence[Score]) -> Iterator[tuple[Any, ...]]:
    """The ratios of the first seeds, and of the others."""
    first, new = ([one for one in found if (one.seed < SEEN) == early] for early in (True, False))
    for ratio in ratios(first, (1 - SECOND_LOOK) / 2):
        yield "first", SECOND_LOOK, *ratio
    for ratio in ratios(new):
        yield "new", 1 - 2 * TAIL, *ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of scores.csv, and of the table")
    out = parser.parse_args().out
    found = tables.read(out / "scores.csv", Score)
    tables.write(out / "over_tasks.csv", COLUMNS, rows(relative(found)))


if __name__ == "__main__":
    main()
