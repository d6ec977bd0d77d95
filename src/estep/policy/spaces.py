"""Compares the spaces of an environment with those of before: those that a policy or a checkpoint was trained with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from estep.core.types import Spec
from estep.envs.actions import recorded
from estep.envs.base import ActionSpace, HostEnv, names_of
from estep.envs.observations import PIXELS, ObservationSpace, Part, recorded_observations
from estep.errors import UsageError


class Spaces(NamedTuple):
    """The spaces that a policy was trained with."""

    obs_dim: int
    action: ActionSpace
    observation: ObservationSpace | None
    """None if it is not recorded, as in checkpoints of 0.1.0. Of several tasks that of the first."""
    tasks: Mapping[str, ObservationSpace] = {}
    """The observations of each task by its name; empty with one environment."""

    @property
    def spec(self) -> Spec:
        """What the algorithm knew of the environment."""
        names = names_of(self.observation)
        return Spec(self.obs_dim, self.action.size, self.action.squash, len(self.tasks), names)

    @property
    def storage(self) -> np.dtype[Any]:
        """The type in which replay stores observations: uint8 where all of them are, else float32."""
        known = self.tasks.values() or [self.observation]
        pixels = all(space is not None and space.storage == PIXELS for space in known)
        return PIXELS if pixels else np.dtype(np.float32)


def spaces_in(env: HostEnv) -> Spaces:
    """The spaces of environments."""
    return Spaces(env.spec.obs_dim, env.action_space, env.observation_space, env.tasks)


def spaces_of(meta: Mapping[str, Any]) -> Spaces:
    """The spaces that a checkpoint records.

    Raises:
        KeyError, TypeError, ValueError, EnvironmentFailure: the record is malformed.
    """
    size, saved = int(meta["observation"]), meta.get("observation_space")
    observation = None if saved is None else recorded_observations(saved)
    tasks = {str(task["name"]): recorded_observations(task["observation_space"]) for task in meta.get("tasks", ())}
    for space in (*tasks.values(), *([] if observation is None else [observation])):
        if space.size + len(tasks) != size:
            raise ValueError(f"its observation space has {space.size} numbers, not {size - len(tasks)}")
    return Spaces(size, recorded(meta["action"]), observation, tasks)


def space_record(spaces: Spaces) -> dict[str, Any]:
    """The JSON values that `spaces_of` reads."""
    known = {} if spaces.observation is None else {"observation_space": spaces.observation.record()}
    tasks = [{"name": name, "observation_space": space.record()} for name, space in spaces.tasks.items()]
    several = {"tasks": tasks} if tasks else {}
    return {"observation": spaces.obs_dim, "action": spaces.action.record(), **known, **several}


def check_task(task: str, names: Sequence[str]) -> None:
    """Check that a run has a task of this name. Raises UsageError."""
    if names and not task:
        raise UsageError("This run has several tasks, and none of them was named.", f"Give one of: {', '.join(names)}.")
    if task not in names:
        fix = f"Give one of: {', '.join(names)}." if names else "Leave the task out."
        raise UsageError(f"This run has no task {task!r:.200}{'' if names else ': it has one environment'}.", fix)


def check_tasks(before: Spaces, env: HostEnv, task: str = "") -> None:
    """Check that environments are those of before, as `check_spaces` does in each task.

    Args:
        before: the spaces of before.
        env: the environments, of all tasks or of one alone.
        task: the name of the one.

    Raises:
        UsageError: the tasks are others, or something else differs.
    """
    if task or not before.tasks:
        known = before.tasks.get(task, before.observation)
        check_spaces(before._replace(observation=known), env.action_space, env.observation_space)
        return
    if list(before.tasks) != list(env.tasks):
        names = [", ".join(tasks) or "a single environment" for tasks in (env.tasks, before.tasks)]
        what = f"The tasks are not those of the training: {names[0]}, not {names[1]}."
        raise UsageError(what, "Give the environments of the training, or train a new policy in these.")
    for name, now in env.tasks.items():
        check_spaces(before._replace(observation=before.tasks[name]), env.action_space, now)


def check_spaces(before: Spaces, action: ActionSpace, observation: ObservationSpace) -> None:
    """Check that an environment is that of before: its actions, and the shapes and types of its observations.

    Other bounds of observations are warned of, because nothing that was learned depends on them.

    Raises:
        UsageError: something else differs; the message names both.
    """
    wrong = action_difference(before.action, action) or observation_difference(before, observation)
    if wrong:
        fix = "Give the environment of the training, or train a new policy in this one."
        raise UsageError(f"The environment is not that of the training: {wrong}.", fix)
    moved = None if before.observation is None else moved_bounds(before.observation, observation)
    if moved:
        warnings.warn(f"The environment is not that of the training: {moved}.", RuntimeWarning, stacklevel=2)


def action_difference(before: ActionSpace, now: ActionSpace) -> str:
    """How two action spaces differ, or an empty string."""
    old, new = before.record(), now.record()
    if old == new:
        return ""
    if set(old) != set(new) or before.shape != now.shape or before.dtype != now.dtype:
        texts = [f"{one.describe()} (shape {one.shape}, {one.dtype})" for one in (now, before)]
        return f"its actions are {texts[0]}, not {texts[1]}"
    if "low" not in old:
        return f"its actions are {new}, not {old}"
    low, high = (np.array([old[bound], new[bound]]) for bound in ("low", "high"))
    i = int(np.argmax((low[0] != low[1]) | (high[0] != high[1])))
    texts = [f"[{low[row, i]:g}, {high[row, i]:g}]" for row in (1, 0)]
    return f"action dimension {i} has the bounds {texts[0]}, not {texts[1]}"


def observation_difference(before: Spaces, now: ObservationSpace) -> str:
    """How shapes and types of observations differ, or an empty string."""
    if before.observation is None:
        same = now.size == before.obs_dim
        return "" if same else f"its observations have {now.size} numbers, not {before.obs_dim}"
    old, new = before.observation.parts, now.parts
    if [part.path for part in old] != [part.path for part in new]:
        return f"its observations are {now.describe()}, not {before.observation.describe()}"
    for one, other in zip(old, new, strict=True):
        if (one.shape, one.dtype, one.choices) != (other.shape, other.dtype, other.choices):
            return f"{one.name} is {form(other)}, not {form(one)}"
    return ""


def form(part: Part) -> str:
    """Shape and type of a part of an observation, in words."""
    return f"one of {part.choices}" if part.choices else f"{part.dtype} of shape {part.shape}"


def moved_bounds(before: ObservationSpace, now: ObservationSpace) -> str:
    """How the bounds of observations differ, or an empty string."""
    for one, other in zip(before.parts, now.parts, strict=True):
        differs = (one.low != other.low) | (one.high != other.high)
        if differs.any():
            i = int(np.argmax(differs))
            texts = [f"[{part.low[i]:g}, {part.high[i]:g}]" for part in (other, one)]
            return f"number {i} of {one.name} has the bounds {texts[0]}, not {texts[1]}"
    return ""


def rows_of_size(obs: Any, size: int) -> tuple[npt.NDArray[np.float32], bool]:
    """Observations as rows [n, size], and whether it was one without a batch axis, where only the size is known.

    Raises:
        ValueError: the number of elements does not fit.
    """
    array = np.asarray(obs, np.float32)
    if array.size == size:
        return array.reshape(1, size), array.ndim < 2 or array.shape[0] != 1
    if array.ndim > 1 and len(array) and array[0].size == size:
        return array.reshape(len(array), size), False
    raise ValueError(f"it has shape {array.shape}")


def rows_of(spaces: Spaces, obs: Any, task: str) -> tuple[npt.NDArray[np.float32], bool]:
    """Observations as the rows that a policy reads, and whether it was one without a batch axis.

    Args:
        spaces: the spaces that the policy was trained with.
        obs: one observation as its environment gives it, or a batch of them.
        task: the name of the task, whose one-hot vector is put behind them; empty with one environment.

    Raises:
        UsageError: there is no such task, or the observation does not fit or is not finite.
    """
    if task != "" or spaces.tasks:
        check_task(task, list(spaces.tasks))
    size, known = spaces.obs_dim - len(spaces.tasks), spaces.tasks.get(task, spaces.observation)
    try:
        rows, single = rows_of_size(obs, size) if known is None else known.batch(obs)
    except (TypeError, ValueError) as error:
        what = f"The observation does not fit this policy, which reads {size} numbers: {error}."
        raise UsageError(what, "Pass an observation of the training environment, or a batch of them.") from error
    if not np.isfinite(rows).all():
        raise UsageError("The observation is not finite.", "Check the environment: estep check-env ID.")
    if spaces.tasks:
        one_hot = np.eye(len(spaces.tasks), dtype=np.float32)[list(spaces.tasks).index(task)]
        rows = np.concatenate([rows, np.broadcast_to(one_hot, (len(rows), len(one_hot)))], 1)
    return rows, single
