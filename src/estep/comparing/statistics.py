"""Statistics over seeds and tasks, in NumPy alone. The unit is the seed: one number of each run on each task.

A group is a list of tasks, each an array whose last axis has the seeds. Axes before that are resamples, so that one
formula serves the numbers and their bootstrap.

Source:
    Agarwal et al. 2021 (arXiv:2108.13264). tests/comparing/rliable.json has values of their library.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from estep.instruments.interval import NORMAL

Array: TypeAlias = npt.NDArray[Any]
Group: TypeAlias = Sequence[Array]
TRIMMED = 0.25
"""Fraction of the numbers that the interquartile mean leaves out at each end."""
REPEATS = 2000
"""Resamples of a bootstrap."""
TAIL = 0.025
"""Of each side of a 95 % interval."""


def interquartile_mean(group: Group) -> Array:
    """The mean of the middle half of the seeds of all tasks.

    Example:
        >>> float(interquartile_mean([np.array([0.0, 1.0, 2.0, 99.0])]))
        1.5
    """
    every = np.sort(np.concatenate(group, axis=-1), axis=-1)
    cut = int(TRIMMED * every.shape[-1])
    return np.asarray(every[..., cut : every.shape[-1] - cut].mean(-1))


def mean(group: Group) -> Array:
    """The mean over tasks of the means over seeds."""
    return np.asarray(_of_tasks(group).mean(-1))


def median(group: Group) -> Array:
    """The median over tasks of the means over seeds."""
    return np.asarray(np.median(_of_tasks(group), axis=-1))


def optimality_gap(group: Group, goal: float = 1.0) -> Array:
    """How far the seeds stay below the goal in the mean; what is above the goal counts as the goal.

    Example:
        >>> float(optimality_gap([np.array([0.5, 2.0])]))
        0.25
    """
    return np.asarray(goal - _of_tasks([np.minimum(task, goal) for task in group]).mean(-1))


def profile(group: Group, scores: Sequence[float]) -> Array:
    """The share of seeds above each of some scores, as a mean over tasks: the performance profile. The last axis has
    the scores."""
    shares = [_of_tasks([np.asarray(task > score, np.float64) for task in group]).mean(-1) for score in scores]
    return np.stack(shares, axis=-1)


def chance(first: Group, second: Group) -> Array:
    """The probability that a seed of the first group is above one of the second on the same task, as a mean over tasks.
    Equal ones count half: it is the statistic of Mann and Whitney.

    Example:
        >>> float(chance([np.array([1.0, 2.0])], [np.array([0.0, 2.0])]))
        0.625
    """
    return np.asarray(np.stack([_above(a, b) for a, b in zip(first, second, strict=True)], axis=-1).mean(-1))


def _above(first: Array, second: Array) -> Array:
    a, b = first[..., :, None], second[..., None, :]
    return np.asarray(((a > b) + 0.5 * (a == b)).mean((-2, -1)))


def _of_tasks(group: Group) -> Array:
    """The mean over seeds of each task, on the last axis."""
    return np.stack([task.mean(-1) for task in group], axis=-1)


def bootstrap(statistic: Callable[..., Array], *groups: Group, repeats: int = REPEATS, tail: float = TAIL) -> Array:
    """The limits of an interval by the stratified percentile bootstrap: the seeds of each task are resampled, and the
    tasks stay. Equal numbers give equal limits. NaN where a task has a single seed, which tells of no spread.

    Args:
        statistic: of resampled groups, whose arrays have the resamples on the first axis.
        groups: what is resampled.
        repeats: number of resamples.
        tail: the chance that the truth is below the interval, and that it is above it.
    """
    random = np.random.default_rng(0)
    drawn = [[task[random.integers(len(task), size=(repeats, len(task)))] for task in group] for group in groups]
    limits = np.quantile(statistic(*drawn), (tail, 1 - tail), axis=0)
    single = any(len(task) < 2 for group in groups for task in group)
    return np.full_like(limits, np.nan) if single else limits


def chance_limits(found: float, first: int, second: int) -> tuple[float, float]:
    """The limits of a 95 % interval of `chance` on one task, also where it is 0 or 1.

    Args:
        found: the chance.
        first: number of seeds of the first group.
        second: number of seeds of the second group.

    Source:
        Newcombe 2006, method 5.
    """
    size = (first + second) / 2

    def inside(value: float) -> bool:
        shape = 1 + (size - 1) * ((1 - value) / (2 - value) + value / (1 + value))
        return abs(value - found) <= NORMAL * math.sqrt(value * (1 - value) * shape / (first * second))

    def limit(end: float) -> float:
        within, outside = found, end
        for _ in range(50):
            between = (within + outside) / 2
            within, outside = (between, outside) if inside(between) else (within, between)
        return within

    return limit(0.0), limit(1.0)


def median_limits(numbers: Array) -> tuple[float, float]:
    """The limits of a 95 % interval of the median of independent numbers with any distribution: two of the numbers in
    their order. NaN below six numbers, which have none."""
    ordered, count = np.sort(numbers), len(numbers)
    below = np.cumsum([math.comb(count, k) for k in range(count)]) / 2.0**count
    rank = int((below <= TAIL).sum())
    return (float(ordered[rank - 1]), float(ordered[-rank])) if rank else (math.nan, math.nan)
