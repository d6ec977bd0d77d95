"""Confidence intervals of means."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean and the limits of its confidence interval. For a single number the limits are NaN."""

    mean: float
    low: float
    high: float


def interval(values: npt.ArrayLike) -> Interval:
    """The mean of independent numbers and its 95 % confidence interval (Student's t)."""
    numbers = np.asarray(values, np.float64).ravel()
    count, mean = len(numbers), float(numbers.mean())
    if count < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, count - 1) * numbers.std(ddof=1) / np.sqrt(count))
    return Interval(mean, mean - half, mean + half)
