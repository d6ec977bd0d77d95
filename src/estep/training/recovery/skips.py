"""How many skipped updates end a run."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from estep.errors import NumericHalt

IN_A_ROW = 20
OF_LAST = (10, 10_000)
"""The run halts at 20 skipped updates in a row, or more than 10 of the last 10,000."""


LARGE = 1e6
"""Observations and rewards beyond this are named when a run halts."""


@dataclass
class Counts:
    """Counts that are part of a checkpoint."""

    env_steps: int = 0
    updates: int = 0
    episodes: int = 0
    skipped: int = 0
    skips_in_a_row: int = 0
    evaluated: int = 0
    """env_steps at the last evaluation."""
    saved: int = 0
    """env_steps at the last checkpoint."""
    dropped: int = 0
    """Steps that were taken out of replay, because no update on them is finite."""
    rollbacks: int = 0
    """How often the run went back to a checkpoint."""


def count_skips(
    counts: Counts, recent: deque[int], skipped: npt.NDArray[Any], explained: npt.NDArray[np.bool_]
) -> int | None:
    """Count the skipped updates of a block.

    Args:
        counts: of the run, after the block. They are changed.
        recent: the numbers of recent updates that were skipped. It is changed.
        skipped: [K], not 0 where an update was skipped.
        explained: [K], whether the steps to blame were found and dropped. Such an update ends no run.

    Returns:
        The number in the block of the update at which the run must halt, or None.
    """
    first = counts.updates - len(skipped)
    for i, skip in enumerate(skipped):
        counts.skipped += bool(skip)
        counts.skips_in_a_row = counts.skips_in_a_row + (not explained[i]) if skip else 0
        if skip and not explained[i]:
            recent.append(first + i)
        while recent and recent[0] <= first + i - OF_LAST[1]:
            recent.popleft()
        if counts.skips_in_a_row >= IN_A_ROW or len(recent) > OF_LAST[0]:
            return i
    return None


def halt(counts: Counts, recent: deque[int], update: int, batch: Mapping[str, npt.NDArray[Any]]) -> NumericHalt:
    """The error of a run that must halt after an update on a batch. It names numbers that are too large to learn from.

    Example:
        >>> import numpy as np
        >>> batch = {"reward": np.full(2, 1e20), "obs": np.ones(2)}
        >>> print(halt(Counts(), deque(), 7, batch).fix)
        Scale the rewards down, for example by --reward-scale 1e-20.
    """
    largest = {name: float(np.abs(batch[name]).max()) for name in ("reward", "obs") if name in batch}
    what = (
        f"{counts.skips_in_a_row} updates in a row and {len(recent)} of the last {OF_LAST[1]:,} had a loss or gradient "
        f"that is not finite (update {update}, step {counts.env_steps})"
    )
    fix = "Give a smaller --learning-rate. estep replay-step repeats the last of them from the folder dump/."
    if largest.get("obs", 0.0) > LARGE:
        what += f", with observations of up to {largest['obs']:.0e}"
        fix = "Scale the observations down in the environment, or train with --normalise."
    if largest.get("reward", 0.0) > LARGE:
        what += f", with rewards of up to {largest['reward']:.0e}"
        fix = f"Scale the rewards down, for example by --reward-scale {1 / largest['reward']:.0e}."
    return NumericHalt(f"{what}.", fix)
