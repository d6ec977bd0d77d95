"""Makes Gymnasium environments from an id, an instance or a function, with errors that say what to do."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import gymnasium
from gymnasium.wrappers import TimeLimit

import estep.envs.multigoal  # noqa: F401  (registers estep/MultiGoal-v0)
from estep.errors import EnvironmentFailure, UsageError, unknown
from estep.settings.references import import_module

TRAIN, EVAL = 0, 1
"""Two streams of episode seeds: episodes for training and episodes for evaluation."""
Source: TypeAlias = "str | gymnasium.Env[Any, Any] | Callable[[], Any]"


def env_ids() -> list[str]:
    """Every id in Gymnasium's registry, sorted. estep cannot train on all of them, and some need other packages."""
    return sorted(gymnasium.registry)


def build(source: Source, num_envs: int, stream: int) -> list[gymnasium.Env[Any, Any]]:
    """Make the environments of a stream.

    Args:
        source: a Gymnasium id, an instance, or a function without arguments that makes an environment.
        num_envs: how many environments.
        stream: TRAIN or EVAL. An instance is used for training; for evaluation a copy is made from its spec.

    Raises:
        UsageError: the id or its module is unknown, or the instance cannot be copied.
        EnvironmentFailure: the environment raised or is not a Gymnasium environment.
    """
    name = source_name(source)
    print_each_warning_once()
    if isinstance(source, str):
        register(source)
        return [construct(lambda: gymnasium.make(source, disable_env_checker=True), name) for _ in range(num_envs)]
    if isinstance(source, gymnasium.Env):
        if num_envs > 1:
            what = f"{name} is one environment, but --num-envs is {num_envs}."
            raise UsageError(what, "Pass the environment's id or a function that makes it, or set num_envs=1.")
        if stream == TRAIN:
            return [source]
        spec = copyable(source, name)
        return [construct(lambda: gymnasium.make(spec), name)]
    if not callable(source):
        what = f"{name} is not a Gymnasium environment."
        raise EnvironmentFailure(what, "Pass a Gymnasium id, a gymnasium.Env, or a function that makes one.")
    return [construct(source, name) for _ in range(num_envs)]


def print_each_warning_once() -> None:
    """Make MuJoCo print each warning once, on stderr, unless the user has set a handler.

    By default MuJoCo repeats its warnings for every environment and writes a log into the working directory.
    """
    import mujoco

    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_warn)


@functools.lru_cache(256)  # some messages contain the simulation time, so there is no limit to their number
def _warn(message: str) -> None:
    print(f"MuJoCo: {message}", file=sys.stderr, flush=True)


def copyable(env: gymnasium.Env[Any, Any], name: str) -> Any:
    """The spec from which a second environment can be made. Raises UsageError if the environment has no spec."""
    if env.spec is None:
        what = f"estep cannot make a second one of {name} for evaluation, because gymnasium.make did not make it."
        raise UsageError(what, "Pass a function that makes the environment instead.")
    return env.spec


def construct(make: Callable[[], Any], name: str) -> gymnasium.Env[Any, Any]:
    """Call a function that makes an environment, and check its result."""
    try:
        env = make()
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        what = f"{name} needs a module that cannot be imported: {error}."
        raise UsageError(what, "Install that module.") from error
    except Exception as error:
        what = f"Making the environment {name} raised {type(error).__name__}: {error}."
        raise EnvironmentFailure(what, "Check that the environment can be made without estep.") from error
    if not isinstance(env, gymnasium.Env):
        what = f"{name} made a {type(env).__name__}, which is not a gymnasium.Env."
        fix = "Derive it from gymnasium.Env. For several environments use --num-envs, not a vector environment."
        raise EnvironmentFailure(what, fix)
    return env


def register(env_id: str) -> None:
    """Import the module of a `module:Id` and look up the id.

    Raises:
        UsageError: the module or the id is unknown. The message names the most similar id.
        EnvironmentFailure: importing the module raised an exception.
    """
    module, colon, name = env_id.rpartition(":")
    if colon:
        try:
            import_module(module)
        except (ImportError, TypeError, ValueError) as error:  # the last two: an empty or relative module name
            what = f"The module of {env_id} cannot be imported: {error}."
            raise UsageError(what, "Install the module, or add its folder to PYTHONPATH.") from error
        except Exception as error:
            what = f"Importing the module of {env_id} raised {type(error).__name__}: {error}."
            raise EnvironmentFailure(what, "Check that the module can be imported without estep.") from error
    try:
        gymnasium.spec(name)
    except gymnasium.error.Error as error:
        raise unknown("environment", name, gymnasium.registry, "`estep envs` lists all environments.") from error


def source_name(source: Source) -> str:
    """The name of an environment in messages."""
    if isinstance(source, str):
        return source
    if isinstance(source, gymnasium.Env):
        return source.spec.id if source.spec else type(source.unwrapped).__name__
    return getattr(source, "__name__", type(source).__name__)


def time_limit(env: gymnasium.Env[Any, Any]) -> int | None:
    """Steps after which a TimeLimit wrapper truncates, or None. A limit inside the environment cannot be seen."""
    limits = []
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, TimeLimit):
            limits.append(int(env._max_episode_steps))
        env = env.env
    return min(limits, default=None)
