"""The states in which a run is inspected."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from estep.data.replay import Replay
from estep.e_steps.chain import LAM, VALID
from estep.errors import RejectedInput, UsageError
from estep.likelihoods.imagined import measured
from estep.policy import policy
from estep.policy.policy import Policy
from estep.runs import checkpoint, reading
from estep.runs.config_file import Recipe
from estep.runs.folder import RunFolder
from estep.settings import arguments
from estep.training.allocation import allocate

States: TypeAlias = npt.NDArray[np.float32]

RECENT = 4096
"""On-policy states are taken from this many steps before a checkpoint: several episodes of almost the same policy."""

OTHERS = 4
"""Number of other checkpoints, evenly spaced, whose critics `transfer` uses and whose replay `staleness` reads."""


def loaded(run_dir: Path, which: str, allow_import: bool, imagined: bool) -> Policy:
    """The policy of a run, as its inference is measured.

    Args:
        run_dir: the run folder.
        which: the checkpoint: best, latest, or a number of environment steps.
        allow_import: whether the modules that the run folder names may be imported.
        imagined: whether Q̂ has the imagined steps that inference was trained with, if it was.
    """
    trained = policy.load(run_dir, which, allow_import=allow_import)
    return dataclasses.replace(trained, agent=measured(trained.agent, imagined))


def pick_evenly(steps: Iterable[int]) -> list[int]:
    """At most OTHERS of the checkpoints, evenly spaced."""
    every = list(steps)
    return [every[i] for i in np.linspace(0, len(every) - 1, min(len(every), OTHERS)).astype(int)]


def recent_states(trained: Policy, which: str, count: int, task: str = "") -> npt.NDArray[np.float32]:
    """On-policy states: evenly spaced over the latest steps in the replay of a checkpoint.

    Args:
        trained: a policy of the run.
        which: the checkpoint: best, latest, or a number of environment steps.
        count: how many states.
        task: the name of the only task that is wanted; empty takes all.

    Returns:
        States [n, o], as the environment gives them; with several tasks, the task is at their end.

    Raises:
        RejectedInput: the checkpoint has no replay, such as one of `Policy.save`.
    """
    tasks = list(trained.tasks)
    latest = replay_of(trained, which).latest(max(count, RECENT) * (len(tasks) if task else 1))
    return evenly_spaced(latest[latest[:, tasks.index(task) - len(tasks)] == 1.0] if task else latest, count)


def shared_states(trained: Policy, which: Sequence[int], count: int, seed: int) -> tuple[States, dict[int, States]]:
    """States that are in the replays of several checkpoints, and the λ that each replay stores for them.

    Args:
        trained: a policy of the run.
        which: environment steps of the checkpoints.
        count: largest number of states; they are sampled uniformly.
        seed: seed of the random numbers.

    Returns:
        States [n, o], as the environment gives them, and λ [n, l] by checkpoint.

    Raises:
        RejectedInput: a checkpoint has no replay.
        UsageError: there is no step for which all replays have a λ.
    """
    replays = {step: replay_of(trained, str(step)) for step in sorted(which)}
    rows = np.unique(next(iter(replays.values())).draw(seed, 0, (4 * count,)))
    steps = {step: replay.read(rows) for step, replay in replays.items()}
    obs: Any = next(iter(steps.values())).obs
    memos = {step: cast(Mapping[str, Any], batch.memo) for step, batch in steps.items()}
    same = [(batch.obs == obs).all(-1) & (memos[step][VALID][:, 0] == 1.0) for step, batch in steps.items()]
    shared = np.flatnonzero(np.logical_and.reduce(same))[:count]
    if not len(shared):
        what = "The replays of these checkpoints share no step with a stored λ."
        raise UsageError(what, "Train with a larger --replay-size or a smaller --checkpoint-every.")
    return obs[shared], {step: memo[LAM][shared] for step, memo in memos.items()}


def replay_of(trained: Policy, which: str) -> Replay:
    """The replay of a checkpoint: best, latest, or a number of environment steps.

    Raises:
        RejectedInput: the checkpoint has no replay, such as one of `Policy.save`.
    """
    known = trained.observation_space
    stored = np.dtype(np.float32) if known is None else trained.spaces.storage
    num_envs = trained.recipe.run.num_envs * max(1, len(trained.tasks))
    replay = allocate(trained.agent, trained.recipe.run, num_envs, stored)
    path = checkpoint.locate(RunFolder.open(trained.run_dir).path, arguments.checkpoint(which))
    checkpoint.load(path, None, replay)
    return replay


def read_states(path: Path, size: int) -> npt.NDArray[np.float32]:
    """States [n, o] from a .npy file, as the environment gives them.

    Raises:
        RejectedInput: there is no such file, or it does not have finite numbers of this shape.
    """
    fix = f"Save the states with numpy.save, as finite numbers of shape [n, {size}]."
    try:
        numbers = reading.read_numbers(path.resolve()).reshape(-1, size)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise RejectedInput(f"{path} cannot be read as states: {error}.", fix) from error
    if not len(numbers) or not np.isfinite(numbers).all():
        raise RejectedInput(f"{path} has no states, or states that are not finite.", fix)
    return numbers


def evenly_spaced(states: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """At most `count` of the states, evenly spaced."""
    chosen: npt.NDArray[Any] = states[np.linspace(0, len(states) - 1, min(count, len(states))).astype(int)]
    return chosen


def check_rewards(recipe: Recipe) -> None:
    """Check that values of a critic can be compared with returns. Raises UsageError."""
    run = recipe.run
    flag = "--reward-scale" if run.reward_scale else "--normalise-rewards" if run.normalise_rewards else ""
    if flag:
        what = f"The critic was trained on scaled rewards ({flag}), and returns are not scaled."
        raise UsageError(what, f"Train without {flag} to measure this.")


def check_one_task(trained: Policy, task: str) -> None:
    """Check that one task is measured. Raises UsageError."""
    if trained.tasks and not task:
        what = "States are put back into one simulator, and the run has several tasks."
        raise UsageError(what, f"Give --task with one of: {', '.join(trained.tasks)}.")
