"""In which states a run is inspected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from estep.errors import RejectedInput
from estep.experiment import checkpoint
from estep.experiment.folder import RunFolder
from estep.experiment.policy import Policy
from estep.experiment.trainer import allocate

RECENT = 4096
"""Steps before a checkpoint among which its states are drawn: few enough that the policy is much the same, enough for
several episodes."""


def recorded(found: Policy, which: str, count: int) -> npt.NDArray[np.float32]:
    """On-policy states [n, o] as the environment gives them: evenly spaced over the latest steps in the replay of a
    checkpoint.

    Raises:
        RejectedInput: the checkpoint holds no replay, as those of `Policy.save`.
    """
    replay = allocate(found.agent, found.recipe.run)
    path = checkpoint.at(RunFolder.open(found.run_dir).path, int(which) if which.isdecimal() else which)
    checkpoint.load(path, None, replay)
    return spaced(replay.latest(max(count, RECENT)), count)


def given(path: Path, size: int) -> npt.NDArray[np.float32]:
    """States [n, o] from a .npy file, as the environment gives them.

    Raises:
        RejectedInput: no such file, or not finite numbers of that shape.
    """
    fix = f"Save them with numpy.save as finite numbers of shape [n, {size}]."
    try:
        states: Any = np.load(path, allow_pickle=False)
        numbers = np.asarray(states, np.float32).reshape(len(states), size)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise RejectedInput(f"{path} does not hold states: {error}.", fix) from error
    if not len(numbers) or not np.isfinite(numbers).all():
        raise RejectedInput(f"{path} holds no states, or some that are not finite.", fix)
    return numbers


def spaced(states: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """At most so many of the states, evenly spaced."""
    kept: npt.NDArray[np.float32] = states[np.linspace(0, len(states) - 1, min(count, len(states))).astype(int)]
    return kept
