"""The environments of several tasks as one: they are stepped side by side, and every observation ends with its task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from estep.envs.build import check_distinct
from estep.envs.gymnasium import GymnasiumEnv
from estep.errors import UsageError


def join(parts: Sequence[GymnasiumEnv], name: str) -> GymnasiumEnv:
    """The environments of all tasks of a run, equally many of each.

    Args:
        parts: the environments of each task, whose name they have. They are taken over and must not be used any more.
        name: the name of all of them.

    Raises:
        UsageError: two tasks have other actions, or observations of other sizes; or one environment is in both.
    """
    for part in parts[1:]:
        check_equal(parts[0], part)
    check_distinct([env for part in parts for env in part.envs], name)
    tasks = {part.name: part.observation_space for part in parts}
    for part, one_hot in zip(parts, np.eye(len(parts), dtype=np.float32), strict=True):
        for instance in part.instances:
            instance.identify(one_hot)
    return GymnasiumEnv([group for part in parts for group in part.groups], name, tasks)


def alone(part: GymnasiumEnv, names: Sequence[str]) -> GymnasiumEnv:
    """The environments of one task of a run, whose observations end with the task as in the run.

    Args:
        part: its environments, whose name is the task's. They are taken over and must not be used any more.
        names: the names of all tasks of the run.
    """
    for instance in part.instances:
        instance.identify(np.eye(len(names), dtype=np.float32)[names.index(part.name)])
    env = GymnasiumEnv(part.groups, part.name)
    env.spec = env.spec._replace(tasks=len(names))
    return env


def check_equal(one: GymnasiumEnv, other: GymnasiumEnv) -> None:
    """Check that two tasks have the same actions, and observations of the same size. Raises UsageError naming both."""
    actions = one.action_space.record(), other.action_space.record()
    if actions[0] != actions[1] or one.action_space.shape != other.action_space.shape:
        texts = [f"{env.action_space.describe()} in {env.name}" for env in (one, other)]
        if texts[0].partition(" in ")[0] == texts[1].partition(" in ")[0]:
            texts = [f"{record} in {env.name}" for record, env in zip(actions, (one, other), strict=True)]
        what = f"Tasks must have the same actions, and these are {texts[0]} and {texts[1]}."
        raise UsageError(what, "Give environments with equal action spaces, or wrap one so that they are.")
    sizes = one.observation_space.size, other.observation_space.size
    if sizes[0] != sizes[1]:
        what = (
            f"Tasks must have observations of one size, and {one.name} has {sizes[0]} numbers, but {other.name} has "
            f"{sizes[1]}."
        )
        raise UsageError(what, "Give environments with observations of equal size, or wrap one so that they are.")
