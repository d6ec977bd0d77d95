"""Which steps of a replay a batch is of: exactly uniform over all steps, or over those of each task."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


def philox(seed: int, counter: int) -> np.random.Generator:
    """The random generator that belongs to two numbers, each taken mod 2^64."""
    key = np.array([seed % 2**64, counter % 2**64], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def pick(counts: Counts, generator: np.random.Generator, count: int, width: int) -> tuple[Counts, Counts]:
    """Sample sequences uniformly with replacement, equally often in each stratum.

    Args:
        counts: how many sequences each environment has [strata, E / strata]; every stratum has one at least.
        generator: of the random numbers.
        count: how many are sampled.
        width: of a row of the result, along which the strata take turns.

    Returns:
        The environment of each, and its number there, from 0: both [count].
    """
    ends = counts.cumsum(1)
    if len(ends) == 1:
        drawn = generator.integers(ends[0, -1], size=count)
        env = np.searchsorted(ends[0], drawn, side="right")
    else:
        stratum = np.arange(count) % width % len(ends)
        drawn = generator.integers(ends[stratum, -1])
        env = stratum * ends.shape[1] + (drawn[:, None] >= ends[stratum]).sum(1)
    return env, drawn - (ends - counts).reshape(-1)[env]
