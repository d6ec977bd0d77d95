"""In which states a run is inspected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from estep.data.replay import Replay
from estep.e_steps.chain import LAM, VALID
from estep.errors import RejectedInput, UsageError
from estep.policy.policy import Policy
from estep.runs import checkpoint
from estep.runs.folder import RunFolder
from estep.training.trainer import allocate

States: TypeAlias = npt.NDArray[np.float32]

RECENT = 4096
"""Steps before a checkpoint among which its states are drawn: few enough that the policy is much the same, enough for
several episodes."""


def recorded(found: Policy, which: str, count: int) -> npt.NDArray[np.float32]:
    """On-policy states [n, o] as the environment gives them: evenly spaced over the latest steps in the replay of a
    checkpoint.

    Raises:
        RejectedInput: the checkpoint holds no replay, as those of `Policy.save`.
    """
    return spaced(replay_of(found, which).latest(max(count, RECENT)), count)


def remembered(found: Policy, which: Sequence[int], count: int, seed: int) -> tuple[States, dict[int, States]]:
    """States [n, o] as the environment gives them, drawn uniformly from the steps that the replays of several
    checkpoints share, and the λ [n, l] that each replay keeps for them, by checkpoint.

    Raises:
        RejectedInput: a checkpoint holds no replay.
        UsageError: there is no step for which all of them keep λ.
    """
    replays = {step: replay_of(found, str(step)) for step in sorted(which)}
    rows = np.unique(next(iter(replays.values())).draw(seed, 0, (4 * count,)))
    steps = {step: replay.read(rows) for step, replay in replays.items()}
    obs: Any = next(iter(steps.values())).obs
    memos = {step: cast(Mapping[str, Any], each.memo) for step, each in steps.items()}
    same = [(each.obs == obs).all(-1) & (memos[step][VALID][:, 0] == 1.0) for step, each in steps.items()]
    shared = np.flatnonzero(np.logical_and.reduce(same))[:count]
    if not len(shared):
        what = "No step of the first of these checkpoints is in the replays of all of them with a λ that is kept."
        raise UsageError(what, "Train with a larger --replay-size, or keep checkpoints closer together.")
    return obs[shared], {step: memo[LAM][shared] for step, memo in memos.items()}


def replay_of(found: Policy, which: str) -> Replay:
    """The replay of a checkpoint.

    Raises:
        RejectedInput: it holds none, as those of `Policy.save`.
    """
    replay = allocate(found.agent, found.recipe.run)
    path = checkpoint.locate(RunFolder.open(found.run_dir).path, int(which) if which.isdecimal() else which)
    checkpoint.load(path, None, replay)
    return replay


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
