"""Episodes of an environment without estep's own checks. What cannot be an episode at all is `Broken`."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt

from estep.envs.actions import action_space
from estep.envs.base import ActionSpace
from estep.envs.guard.watch import Watch
from estep.envs.validation import SimulationClock
from estep.errors import describe_raised


class Finding(NamedTuple):
    """The result of one check."""

    name: str
    ok: bool
    detail: str


class Broken(Exception):
    """An environment that gives no episode. Its arguments are the name of the check and what is wrong."""


class EpisodeRecord(NamedTuple):
    """One episode of the environment without estep: observations [t + 1], rewards and flags [t], not converted."""

    observations: list[Any]
    rewards: list[Any]
    flags: list[Any]
    infos: list[Any]
    was_reset: str
    """How one can see that MuJoCo reset itself, or an empty string."""
    simulated: bool
    """Whether the environment is a MuJoCo simulation."""
    seconds: float
    """Time spent in env.step."""


def begin(env: gymnasium.Env[Any, Any], seed: int, watch: Watch) -> tuple[Any, Any]:
    """Reset an environment. Returns a copy of the observation, because some environments write to it later, and info.

    Raises:
        Broken: it takes no seed, raised, or did not return two values.
    """
    try:
        result = watch.run(env.reset, seed=seed)
    except TypeError as error:
        if "seed" in str(error):
            raise Broken("reset signature", f"reset takes no seed: {error}") from error
        raise
    if not isinstance(result, tuple) or len(result) != 2:
        raise Broken("reset result", f"reset returned a {type(result).__name__}, not (observation, info)")
    return copy.deepcopy(result[0]), result[1]


def step(env: gymnasium.Env[Any, Any], action: Any, watch: Watch) -> tuple[Any, ...]:
    """Take one step. Returns its five values, of which the observation is a copy.

    Raises:
        Broken: it did not return five values, or it changed the action.
    """
    before = np.array(action)
    result = watch.run(env.step, action)
    if not isinstance(result, tuple) or len(result) != 5:
        count = f"{len(result)} values" if isinstance(result, tuple) else f"a {type(result).__name__}"
        raise Broken("step result", f"step returned {count}, not (observation, reward, terminated, truncated, info)")
    if before.tobytes() != np.asarray(action).tobytes():
        raise Broken("action", "step writes to the action that it is given")
    return copy.deepcopy(result[0]), *result[1:]


def random_actions(space: ActionSpace, n: int) -> npt.NDArray[np.float32]:
    """Uniform random actions [n, 1, a], the same in every call."""
    return space.uniform(np.random.default_rng(0), n)[1][:, None]


def run_episode(env: gymnasium.Env[Any, Any], seed: int, cap: int, watch: Watch) -> EpisodeRecord:
    """Run one episode with random actions, without estep's own checks.

    Args:
        env: the environment.
        seed: seed of its reset.
        cap: largest number of steps.
        watch: measures how long its calls take.

    Raises:
        Broken: it gives no episode.
    """
    space = action_space(env.action_space, "it")
    actions = space.native(random_actions(space, cap)[:, 0])
    clock = SimulationClock(env)
    first, info = begin(env, seed, watch)
    clock.start()
    record = EpisodeRecord([first], [], [], [info], "", clock.watching, 0.0)
    was_reset, seconds = "", 0.0
    for action in actions:
        started = time.perf_counter()
        obs, reward, terminated, truncated, info = step(env, action, watch)
        seconds += time.perf_counter() - started
        was_reset = was_reset or clock.was_reset()
        record.observations.append(obs)
        record.rewards.append(reward)
        record.flags.extend((terminated, truncated))
        record.infos.append(info)
        if terminated or truncated:
            break
    return record._replace(was_reset=was_reset, seconds=seconds)


def raised(error: BaseException) -> str:
    """What an exception says, as a detail of a finding."""
    return f"raised {describe_raised(error)}"


def equal_bits(a: list[Any], b: list[Any]) -> bool:
    """Whether two lists of arrays are equal bit for bit."""
    pairs = zip(a, b, strict=False)
    return len(a) == len(b) and all(bits(x) == bits(y) for x, y in pairs)


def bits(value: Any) -> bytes:
    """The bits of an array, or of all arrays of a dict."""
    if isinstance(value, Mapping):
        return b"".join(bits(value[key]) for key in sorted(value))
    return np.asarray(value).tobytes()
