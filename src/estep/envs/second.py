"""The second environment. Evaluation needs one beside that of training, of which it must be a true copy.

An environment of an id or of a function is made again. An instance is made again from its spec if that gives the same,
else it is copied; the copy is tried out before training, because some objects share a device or a server.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import data_equivalence

from estep.envs.build import Source, build, check_distinct, layers, source_name
from estep.envs.elsewhere.pool import Pool
from estep.envs.guard.watch import UNWATCHED, Watch
from estep.errors import EnvironmentFailure, EstepError, UsageError

TRIED = 20
"""Number of steps after which a copy counts as independent."""
DEPTH = 3
"""How deep attributes of attributes are compared."""
METHODS = {"step", "reset", "close"}
WITHOUT = "give eval_episodes=0 (--eval-episodes 0) to train without evaluation"


def build_again(
    source: Source,
    num_envs: int,
    first: list[gymnasium.Env[Any, Any]],
    watch: Watch = UNWATCHED,
    pool: Pool | None = None,
) -> list[gymnasium.Env[Any, Any]]:
    """Make the environments for evaluation, before training begins.

    Args:
        source: what made the environments of training.
        num_envs: how many; of an instance there is one.
        first: the environments of training.
        watch: measures how long their calls take.
        pool: the worker processes that make and step them; None makes them in this process.

    Raises:
        UsageError: no second environment can be made, or it is the one of training.
        EnvironmentFailure: making it raised an exception.
    """
    name = source_name(source)
    if isinstance(source, gymnasium.Env):
        return [second(source, name, watch)]
    try:
        made = build(source, num_envs, watch, pool)
    except EstepError as error:
        kind = EnvironmentFailure if isinstance(error, EnvironmentFailure) else UsageError
        what = f"Evaluation needs environments of its own, and making one more of {name} failed: {error.what}"
        raise kind(what, f"Let {name} make a new environment at each call, or {WITHOUT}.") from error
    check_distinct([*first, *made], name)
    return made


def second(env: gymnasium.Env[Any, Any], name: str, watch: Watch) -> gymnasium.Env[Any, Any]:
    """A second environment like an instance.

    Raises:
        UsageError: it can neither be made again nor copied.
    """
    made = made_again(env, watch)
    different = sorted(set(differences(env, made, watch))) if made else []
    if made and not different:
        return made
    copied = independent_copy(env, watch)
    if copied:
        return copied  # `made` stays open: closing it can shut the window of the whole process
    if made:
        warnings.warn(
            f"{name}: the environment for evaluation, made again by gymnasium.make, differs from the instance in "
            f"{', '.join(different[:5])}. Pass a function that makes and configures the environment.",
            RuntimeWarning,
            stacklevel=2,
        )
        return made
    what = f"estep cannot make a second one of {name} for evaluation: it can neither be made again nor copied."
    raise UsageError(what, f"Pass a function that makes it, such as `lambda: {expression(env)}`; or {WITHOUT}.")


def made_again(env: gymnasium.Env[Any, Any], watch: Watch) -> gymnasium.Env[Any, Any] | None:
    """The environment made once more from its spec, or None. A method that was set on the instance is not in a spec."""
    if overridden(env):
        return None
    try:
        return watch.run(gymnasium.make, env.spec) if env.spec else None
    except (Exception, SystemExit):  # a wrapper of the user's own, or a device that opens once
        return None


def independent_copy(env: gymnasium.Env[Any, Any], watch: Watch) -> gymnasium.Env[Any, Any] | None:
    """A deep copy that steps alone, or None if there is none."""
    if overridden(env):
        return None
    try:
        one, other = watch.run(copy.deepcopy, env), watch.run(copy.deepcopy, env)
        return one if independent(one, other, watch) else None
    except (Exception, SystemExit):  # most windows, sockets and simulators cannot be copied
        return None


def overridden(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether a layer has step, reset or close as an attribute of the instance. A copy would call the original's."""
    return any(METHODS & set(vars(layer)) for layer in layers(env))


def independent(one: gymnasium.Env[Any, Any], other: gymnasium.Env[Any, Any], watch: Watch) -> bool:
    """Whether an environment gives the same steps when another one is stepped between them."""
    space = copy.deepcopy(one.action_space)
    space.seed(0)
    actions = [space.sample() for _ in range(TRIED)]
    alone = list(steps(one, actions, 1, watch))
    beside = []
    for step, _ in zip(steps(one, actions, 1, watch), steps(other, actions[::-1], 2, watch), strict=False):
        beside.append(step)
    return data_equivalence(alone[: len(beside)], beside)


def steps(env: gymnasium.Env[Any, Any], actions: list[Any], seed: int, watch: Watch) -> Iterator[tuple[Any, ...]]:
    """The first observation, then observations and rewards of an episode."""
    yield (copy.deepcopy(watch.run(env.reset, seed=seed)[0]),)
    for action in actions:
        obs, reward, terminated, truncated, _ = watch.run(env.step, action)
        yield copy.deepcopy(obs), np.float64(reward)
        if terminated or truncated:
            return


def differences(env: gymnasium.Env[Any, Any], other: gymnasium.Env[Any, Any], watch: Watch) -> Iterator[str]:
    """The attributes in which two environments differ after the same reset, as far as they are numbers and texts."""
    try:
        for one in (env, other):
            watch.run(one.reset, seed=0)
    except (Exception, SystemExit):  # training, whose first call is a reset, says what is wrong
        return
    pairs = list(zip(layers(env), layers(other), strict=False))
    if [type(one) for one, _ in pairs] != [type(two) for _, two in pairs]:
        yield "its wrappers"
    for one, two in pairs:
        yield from different_attributes(vars(one), vars(two), DEPTH)


def different_attributes(mine: dict[str, Any], other: dict[str, Any], depth: int) -> Iterator[str]:
    """The names of attributes that the other lacks, or that differ: numbers, texts and arrays, also inside objects."""
    for name, value in mine.items():
        if name in ("env", "spec", "np_random", "_np_random"):
            continue
        if name not in other:
            yield name
        elif isinstance(value, bool | int | float | str | bytes | np.ndarray | np.generic | tuple | list | set | dict):
            if not equal(value, other[name]):
                yield name
        elif depth and hasattr(value, "__dict__") and hasattr(other[name], "__dict__") and not callable(value):
            yield from (f"{name}.{inner}" for inner in different_attributes(vars(value), vars(other[name]), depth - 1))


def equal(one: Any, two: Any) -> bool:
    """Whether two values are equal, also dicts and lists of arrays. What cannot be compared counts as equal."""
    try:
        return data_equivalence(one, two)
    except Exception:  # objects that refuse a comparison
        return True


def expression(env: gymnasium.Env[Any, Any]) -> str:
    """The Python expression that makes an environment like this one, as far as it can be known."""
    *wrappers, inner = layers(env)
    made = f'gymnasium.make("{inner.spec.id}")' if inner.spec else f"{type(inner).__name__}(...)"
    ours = {"TimeLimit", "OrderEnforcing", "PassiveEnvChecker"} if inner.spec else set()
    for wrapper in reversed(wrappers):
        made = made if type(wrapper).__name__ in ours else f"{type(wrapper).__name__}({made})"
    return made
