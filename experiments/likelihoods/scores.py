"""Ratios of what inference and critics return: the interquartile mean of one group of runs over that of another.

A group has every seed of every task. The interval is that of the stratified bootstrap: seeds are resampled within their
task. It reads the evaluations.csv of `estep compare` and writes scores.csv, a row a run, and ratios.csv. Run as

    python experiments/likelihoods/scores.py results/likelihoods
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from estep.comparing.statistics import TAIL, Group, bootstrap, interquartile_mean
from estep.plots.learning_curves import Point, points
from estep.runs import tables

LAST = 5
"""Evaluations at the end that make the score of a run."""
DIRECT, ITERATIVE, START, PART, WHOLE = "direct", "iterative", "start", "direct part", "iterative whole"
SAME = "iterative same β"
PLAIN = "none mse"


class Score(NamedTuple):
    """What one run returned in the end."""

    env: str
    critic: str
    """Its network, if that is no multilayer perceptron, its norm, its loss, and its pessimism, if that is not 1."""
    inference: str
    """How actions are found: by the direct policy, also one that learns from part of a batch; by iterations, which
    learn from half of each batch or from all of it, or act by the pessimism that they learn with and not by less; or by
    their start."""
    seed: int
    env_steps: int
    score: float


class Ratio(NamedTuple):
    """The interquartile mean of one group over that of another."""

    critic: str
    inference: str
    over_critic: str
    over_inference: str
    tasks: int
    runs: int
    runs_over: int
    middle: float
    middle_over: float
    ratio: float
    low: float
    high: float


Tasks = Mapping[str, Sequence[float]]
"""The scores of a group by task."""


def named(algorithm: str, settings: str) -> tuple[str, str]:
    """The critic of a run, and how it finds actions, in words."""
    chosen = json.loads(settings)
    if algorithm in ("sac", "mve"):
        way = DIRECT if chosen["inference_fraction"] == 1 else PART
    elif chosen["act_by"] == "start":
        way = START
    elif chosen["beta"] != 1 and chosen["act_beta"] is None:
        way = SAME
    else:
        way = WHOLE if chosen["inference_fraction"] == 1 else ITERATIVE
    network = [] if chosen["network"] == "mlp" else [chosen["network"]]
    pessimism = [] if chosen["beta"] == 1 else [f"β {chosen['beta']:g}"]
    return " ".join([*network, chosen["critic_norm"], chosen["critic_loss"], *pessimism]), way


def scores(found: Sequence[Point]) -> list[Score]:
    """The score of each run."""
    runs: dict[tuple[Any, ...], list[Point]] = defaultdict(list)
    for point in sorted(found, key=lambda point: point.env_steps):
        critic, way = named(point.algorithm, point.settings)
        runs[point.env, critic, way, point.seed].append(point)
    return [
        Score(*about, run[-1].env_steps, float(np.mean([point.mean for point in run[-LAST:]])))
        for about, run in sorted(runs.items())
    ]


def ratio_of(first: Group, second: Group) -> Any:
    """The ratio of the interquartile means."""
    return interquartile_mean(first) / interquartile_mean(second)


def ratios(found: Sequence[Score], tail: float = TAIL) -> Iterator[Ratio]:
    """Of each critic its inference over direct inference, iterations on whole batches or with one pessimism over the
    others, and direct inference and iterations over direct inference with the plain critic, and iterations over those
    with it. Both groups have the tasks of which there are runs of both."""
    groups: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in found:
        groups[one.critic, one.inference][one.env].append(one.score)
    critics = sorted({critic for critic, _ in groups})
    ways = ITERATIVE, START, PART, WHOLE, SAME
    pairs = [((critic, way), (critic, DIRECT)) for critic, way in itertools.product(critics, ways)]
    pairs += [((critic, way), (critic, ITERATIVE)) for critic in critics for way in (WHOLE, SAME)]
    others = [critic for critic in critics if critic != PLAIN]
    pairs += [((critic, way), (PLAIN, DIRECT)) for critic in others for way in (DIRECT, ITERATIVE)]
    pairs += [((critic, ITERATIVE), (PLAIN, ITERATIVE)) for critic in others]
    for name, over in pairs:
        tasks = sorted(groups[name].keys() & groups[over].keys())
        if tasks:
            yield Ratio(*name, *over, len(tasks), *compared(groups[name], groups[over], tasks, tail))


def compared(mine: Tasks, others: Tasks, tasks: Sequence[str], tail: float) -> tuple[Any, ...]:
    """The numbers of runs, the interquartile means, and their ratio with its interval, which leaves `tail` out on each
    side."""
    first, second = ([np.asarray(group[task]) for task in tasks] for group in (mine, others))
    counts = sum(map(len, first)), sum(map(len, second))
    middles = float(interquartile_mean(first)), float(interquartile_mean(second))
    low, high = bootstrap(ratio_of, first, second, tail=tail)
    return *counts, *middles, float(ratio_of(first, second)), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of evaluations.csv, and of the tables")
    args = parser.parse_args()
    found = scores(points(args.out))
    tables.write(args.out / "scores.csv", Score._fields, found)
    tables.write(args.out / "ratios.csv", Ratio._fields, ratios(found))


if __name__ == "__main__":
    main()
