"""Building Gymnasium environments from an id, an instance or a factory, with errors that say what to do."""

from __future__ import annotations

import difflib
import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import gymnasium
from gymnasium.wrappers import TimeLimit

import estep.envs.multigoal  # noqa: F401  (registers an environment of ours)
from estep.errors import EnvironmentFailure, UsageError

TRAIN, EVAL = 0, 1
"""Streams of episode seeds: what the episodes are for."""
Source: TypeAlias = "str | gymnasium.Env[Any, Any] | Callable[[], Any]"


def env_ids() -> list[str]:
    """Every id in Gymnasium's registry, sorted. Not all of them are fit, nor are all installed."""
    return sorted(gymnasium.registry)


def build(source: Source, num_envs: int, stream: int) -> list[gymnasium.Env[Any, Any]]:
    """Make the environments of a stream.

    An instance serves the training stream itself; every other stream gets a copy made from its spec. Raises
    UsageError where what was asked for cannot be had, EnvironmentFailure where the environment is at fault.
    """
    name = source_name(source)
    say_once()
    if isinstance(source, str):
        register(source)
        return [construct(lambda: gymnasium.make(source, disable_env_checker=True), name) for _ in range(num_envs)]
    if isinstance(source, gymnasium.Env):
        if num_envs > 1:
            what = f"{name} is one environment, but {num_envs} were asked for."
            raise UsageError(what, "Pass its id or a function that makes one.")
        if stream == TRAIN:
            return [source]
        spec = copyable(source, name)
        return [construct(lambda: gymnasium.make(spec), name)]
    if not callable(source):
        what = f"{name} is not a Gymnasium environment."
        raise EnvironmentFailure(what, "Pass a Gymnasium id, a gymnasium.Env, or a function that makes one.")
    return [construct(source, name) for _ in range(num_envs)]


def say_once() -> None:
    """Have MuJoCo say each of its warnings once, on stderr, unless the user handles them. By itself it repeats them for
    every environment that is made, and writes a log into the working directory."""
    import mujoco

    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_warn)


@functools.lru_cache(256)  # some messages tell the time of the simulation
def _warn(message: str) -> None:
    print(f"MuJoCo: {message}", file=sys.stderr, flush=True)


def copyable(env: gymnasium.Env[Any, Any], name: str) -> Any:
    """The spec from which a second environment can be made. Raises UsageError when there is none."""
    if env.spec is None:
        what = f"{name} was not made by gymnasium.make, so a second one for evaluation cannot be made from it."
        raise UsageError(what, "Pass a function that makes the environment instead.")
    return env.spec


def construct(make: Callable[[], Any], name: str) -> gymnasium.Env[Any, Any]:
    """Call a factory, and check what it gives."""
    try:
        env = make()
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise UsageError(f"{name} needs a module that cannot be imported: {error}.", "Install it.") from error
    except Exception as error:
        what = f"{name} raised {type(error).__name__} when it was made: {error}."
        raise EnvironmentFailure(what, "Make sure that it can be made without estep.") from error
    if not isinstance(env, gymnasium.Env):
        what = f"{name} gave a {type(env).__name__}, which is not a gymnasium.Env."
        raise EnvironmentFailure(what, "Derive it from gymnasium.Env; for vector environments use --num-envs.")
    return env


def register(env_id: str) -> None:
    """Import the module of a `module:Id` and find the id. Raises UsageError naming the nearest id."""
    module, colon, name = env_id.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except (ImportError, TypeError, ValueError) as error:  # the last two: an empty or relative module name
            what = f"The module of {env_id} cannot be imported: {error}."
            raise UsageError(what, "Install it, or put its folder on PYTHONPATH.") from error
        except Exception as error:
            what = f"The module of {env_id} raised {type(error).__name__} when it was imported: {error}."
            raise EnvironmentFailure(what, "Make sure that it can be imported without estep.") from error
    try:
        gymnasium.spec(name)
    except gymnasium.error.Error as error:
        near = nearest(name)
        fix = f"Did you mean {near}?" if near else "`estep envs` lists them."
        raise UsageError(f"There is no environment {name}.", fix) from error


def nearest(name: str) -> str:
    """The registered id most like a name, whatever its case; the newest version where several are; or nothing."""
    lower = {known.lower(): known for known in gymnasium.registry}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return lower[close[0]] if close else ""


def source_name(source: Source) -> str:
    """What messages call an environment."""
    if isinstance(source, str):
        return source
    if isinstance(source, gymnasium.Env):
        return source.spec.id if source.spec else type(source.unwrapped).__name__
    return getattr(source, "__name__", type(source).__name__)


def time_limit(env: gymnasium.Env[Any, Any]) -> int | None:
    """Steps after which a TimeLimit wrapper truncates, or None. A limit that the environment keeps itself is unseen."""
    limits = []
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, TimeLimit):
            limits.append(int(env._max_episode_steps))
        env = env.env
    return min(limits, default=None)
