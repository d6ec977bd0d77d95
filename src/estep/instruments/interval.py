"""Confidence intervals of means: the only formulas of all tables and figures.

Each is exact, or nearly so, for independent normal numbers, however few. tests/test_intervals.py measures how often
each contains the truth, and docs/intervals.md has the table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

LEVEL = 0.95
NORMAL = float(special.ndtri(0.5 + LEVEL / 2))
"""The 97.5 % point of the normal distribution."""
MANY = 10
"""From so many seeds on, their middle is the interquartile mean: with fewer its interval is too wide or too narrow."""
TRIMMED = 0.25
"""Fraction that the interquartile mean leaves out at each end."""


class Interval(NamedTuple):
    """A mean and the limits of its confidence interval. For a single number the limits are NaN."""

    mean: float
    low: float
    high: float


def interval(values: npt.ArrayLike) -> Interval:
    """The mean of independent numbers and its 95 % confidence interval (Student's t)."""
    numbers = np.asarray(values, np.float64).ravel()
    count, mean = len(numbers), float(numbers.mean())
    return _student(mean, float(numbers.std(ddof=1)) / np.sqrt(count) if count > 1 else np.nan, count - 1)


def interval_of_clusters(values: npt.ArrayLike, clusters: npt.ArrayLike) -> Interval:
    """The mean of numbers and its 95 % confidence interval, where the numbers of a cluster may depend on each other.

    States of one episode are such a cluster. What counts is the spread of the clusters' sums about the mean, with as
    many degrees of freedom as there are clusters less one. If each number is a cluster, it is `interval`.

    Args:
        values: the numbers.
        clusters: for each number, the label of its cluster.

    Source:
        Liang and Zeger 1986, with the correction C/(C - 1) for few clusters.
    """
    numbers, labels = np.asarray(values, np.float64).ravel(), np.asarray(clusters).ravel()
    mean = float(numbers.mean())
    which, index = np.unique(labels, return_inverse=True)
    count = len(which)
    if count < 2:
        return Interval(mean, float("nan"), float("nan"))
    sums = np.bincount(index, numbers - mean)
    error = np.sqrt(count / (count - 1) * np.square(sums).sum()) / len(numbers)
    return _student(mean, float(error), count - 1)


def trimmed_mean(values: npt.ArrayLike, fraction: float = 0.1) -> float:
    """The mean without this fraction of the numbers at each end, so that a few extreme numbers do not decide it."""
    numbers = np.sort(np.asarray(values, np.float64).ravel())
    cut = int(fraction * len(numbers))
    return float(numbers[cut : len(numbers) - cut].mean())


def interval_of_moments(mean: float, std: float, count: int) -> Interval:
    """As `interval`, from the mean and the standard deviation (ddof 0) of the numbers."""
    return _student(mean, std / np.sqrt(count - 1) if count > 1 else np.nan, count - 1)


def middle(values: npt.ArrayLike) -> Interval:
    """The middle of seeds and its 95 % confidence interval: their mean below `MANY`, else their interquartile mean,
    which a single outlier does not move."""
    numbers = np.asarray(values, np.float64).ravel()
    return interval(numbers) if len(numbers) < MANY else interquartile(numbers)


def interquartile(values: npt.ArrayLike) -> Interval:
    """The interquartile mean of independent numbers and its 95 % confidence interval.

    From `MANY` on it is the t interval of a trimmed mean. Below that its error is taken for that of the mean, as
    Student's t has it: the trimmed one is of three or four numbers, and twice as wide. Numbers that are -inf, of seeds
    that failed, are the lowest: from `MANY` on they do not matter where they are among those left out. Others that are
    not finite give NaN: to leave them out with the largest would be wrong.

    Source:
        Tukey and McLaughlin 1963; the standard error is that of Yuen 1974.
    """
    numbers = np.sort(np.asarray(values, np.float64).ravel())
    count, cut = len(numbers), int(TRIMMED * len(numbers))
    kept = numbers[cut : count - cut]
    if not np.isfinite(kept).all() or not (numbers < np.inf).all():
        return Interval(*[float("nan")] * 3)
    mean = float(kept.mean())
    if count < MANY:
        _, low, high = interval(numbers)
        return Interval(mean, mean - (high - low) / 2, mean + (high - low) / 2)
    pulled_in = np.clip(numbers, kept[0], kept[-1])
    error = np.sqrt((count - 1) * pulled_in.var(ddof=1) / (len(kept) * (len(kept) - 1)))
    return _student(mean, float(error), len(kept) - 1)


def over_tasks(tasks: Sequence[npt.ArrayLike]) -> Interval:
    """The mean of all numbers of several tasks, with at least two in each, and its 95 % confidence interval.

    The tasks are those of interest, not a sample of more: only the spread within a task counts (stratification). The
    tasks may differ in their spread.

    Source:
        Satterthwaite 1946, for the degrees of freedom.
    """
    groups = [np.asarray(task, np.float64).ravel() for task in tasks]
    total = sum(map(len, groups))
    mean = float(np.concatenate(groups).mean())
    if min(map(len, groups)) < 2:
        return Interval(mean, float("nan"), float("nan"))
    parts = np.asarray([len(group) * group.var(ddof=1) / total**2 for group in groups])
    own = np.asarray([len(group) - 1 for group in groups])
    freedom = parts.sum() ** 2 / (parts**2 / own).sum() if parts.any() else float(own.sum())
    return _student(mean, float(np.sqrt(parts.sum())), float(freedom))


def difference(a: npt.ArrayLike, b: npt.ArrayLike) -> Interval:
    """The difference of the means of two groups of independent numbers, and its 95 % confidence interval (Welch).

    The groups may differ in their spread and in their size. A group of one number gives no interval.

    Example:
        >>> found = difference([3.0, 4.0, 5.0], [1.0, 2.0, 3.0])
        >>> print(f"{found.mean:.1f} [{found.low:.2f}, {found.high:.2f}]")
        2.0 [-0.27, 4.27]

    Source:
        Welch 1947, with the degrees of freedom of Satterthwaite 1946.
    """
    groups = [np.asarray(group, np.float64).ravel() for group in (a, b)]
    mean = float(groups[0].mean() - groups[1].mean())
    if min(map(len, groups)) < 2:
        return Interval(mean, float("nan"), float("nan"))
    parts = np.asarray([group.var(ddof=1) / len(group) for group in groups])
    own = np.asarray([len(group) - 1 for group in groups])
    freedom = parts.sum() ** 2 / (parts**2 / own).sum() if parts.any() else float(own.sum())
    return _student(mean, float(np.sqrt(parts.sum())), float(freedom))


def share_limits(share: float, count: int) -> tuple[float, float]:
    """The limits of a 95 % interval of a share of so many independent numbers, also where it is 0 or 1.

    Source:
        Wilson 1927.
    """
    square = NORMAL**2
    centre = (count * share + square / 2) / (count + square)
    half = NORMAL * math.sqrt(count * share * (1 - share) + square / 4) / (count + square)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _student(mean: float, error: float, freedom: float) -> Interval:
    """The interval of a mean with a standard error that has so many degrees of freedom."""
    half = float(special.stdtrit(freedom, 0.5 + LEVEL / 2) * error) if freedom > 0 else float("nan")
    return Interval(mean, mean - half, mean + half)
