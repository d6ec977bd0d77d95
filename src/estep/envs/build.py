"""Makes Gymnasium environments from an id, an instance or a function, with errors that say what to do."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import gymnasium
from gymnasium.wrappers import TimeLimit

import estep.envs.multigoal  # noqa: F401  (its import registers estep/MultiGoal-v0)
from estep import terminal
from estep.envs.elsewhere import in_threads
from estep.envs.elsewhere.pool import Pool
from estep.envs.elsewhere.slot import Elsewhere
from estep.envs.guard.watch import UNWATCHED, Watch
from estep.envs.ids import own, register
from estep.errors import EnvironmentFailure, UsageError, describe_raised
from estep.settings.references import ENVPOOL, EnvText, env_text

TRAIN, EVAL, FRESH = 0, 1, 2
"""Three streams of episode seeds: for training, for the evaluations of a run, and for evaluations of a trained policy,
whose episodes were neither trained on nor used to choose the best checkpoint."""
Source: TypeAlias = "str | gymnasium.Env[Any, Any] | Callable[[], Any]"


VELOCITY = "estep/HalfCheetahVelocity-v0"
if VELOCITY not in gymnasium.registry:
    gymnasium.register(VELOCITY, "estep.envs.tasks.velocity:HalfCheetahVelocity", max_episode_steps=1_000)


def env_ids() -> list[str]:
    """Every id in Gymnasium's registry, sorted. estep cannot train on all of them, and some need other packages."""
    return sorted(gymnasium.registry)


def build(
    source: Source, num_envs: int, watch: Watch = UNWATCHED, pool: Pool | None = None
) -> list[gymnasium.Env[Any, Any]]:
    """Make environments. An instance stands for itself.

    Args:
        source: a Gymnasium id, an instance, or a function without arguments that makes an environment.
        num_envs: how many environments.
        watch: measures how long making each takes.
        pool: the worker processes that make and step them; None makes them in this process.

    Raises:
        UsageError: the id or its module is unknown, the function gave one object twice, or a wrapper has statistics.
        EnvironmentFailure: the environment raised or is not a Gymnasium environment.
    """
    name = source_name(source)
    if pool is not None:
        return pool.place(source, num_envs, name)
    if isinstance(source, str) and (text := env_text(source)).id.startswith(ENVPOOL):
        return in_threads.make(text, num_envs)
    print_each_warning_once()
    if isinstance(source, str):
        register(source)
        envs = [construct(lambda: make(env_text(source)), name, watch) for _ in range(num_envs)]
    elif isinstance(source, gymnasium.Env):
        if num_envs > 1:
            what = f"{name} is one environment, but --num-envs is {num_envs}."
            raise UsageError(what, "Pass the environment's id or a function that makes it, or set num_envs=1.")
        envs = [construct(lambda: source, name, watch)]
    elif callable(source):
        envs = [construct(source, name, watch) for _ in range(num_envs)]
    else:
        fix = "Pass a Gymnasium id, a gymnasium.Env, or a function that makes one."
        if isinstance(source, gymnasium.vector.VectorEnv):
            fix = "Pass one of its environments or the id, with num_envs for how many."
        raise EnvironmentFailure(f"{name} is not a Gymnasium environment.", fix)
    check_distinct(envs, name)
    return envs


def check_distinct(envs: list[gymnasium.Env[Any, Any]], name: str) -> None:
    """Check that no environment stands in the list twice. Raises UsageError."""
    if len({id(env.unwrapped) for env in envs}) < len(envs):
        what = f"{name} gave the same environment twice, so the episodes of two environments would be mixed."
        raise UsageError(what, "Let the function make a new environment at each call.")


def print_each_warning_once() -> None:
    """Make MuJoCo print each warning once, on stderr, unless the user has set a handler.

    By default MuJoCo repeats its warnings for every environment and writes a log into the working directory.
    """
    import mujoco

    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_warn)


@functools.lru_cache(256)  # some messages contain the simulation time, so there is no limit to their number
def _warn(message: str) -> None:
    terminal.say(f"MuJoCo: {message}\n")


def make(text: EnvText) -> gymnasium.Env[Any, Any]:
    """Make an environment that `register` found, with its arguments.

    Raises:
        UsageError: it does not take them.
    """
    maker = own(text.id)
    try:
        if maker is not None:
            return maker(**text.arguments)
        arguments: dict[str, Any] = {"disable_env_checker": True, **text.arguments}
        return gymnasium.make(text.id, **arguments)
    except TypeError as error:
        if not text.arguments:
            raise
        what = f"{text.id} cannot be made with {', '.join(text.arguments)}: {error}."
        raise UsageError(what, "Give arguments that the environment takes.") from error


def construct(make: Callable[[], Any], name: str, watch: Watch) -> gymnasium.Env[Any, Any]:
    """Call a function that makes an environment, and check its result."""
    try:
        env = watch.run(make)
    except (UsageError, KeyboardInterrupt):
        raise
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        what = f"{name} needs a module that cannot be imported: {str(error).rstrip('.')}."
        raise UsageError(what, "Install that module.") from error
    except BaseException as error:
        what = f"Making the environment {name} raised {describe_raised(error)}."
        raise EnvironmentFailure(what, "Check that the environment can be made without estep.") from error
    if not isinstance(env, gymnasium.Env):
        what = f"{name} made a {type(env).__name__}, which is not a gymnasium.Env."
        fix = "Derive it from gymnasium.Env. For several environments use --num-envs, not a vector environment."
        raise EnvironmentFailure(what, fix)
    for space in ("observation_space", "action_space"):
        try:
            watch.run(getattr, env, space)
        except Exception as error:
            what = f"{name} has no {space}: reading it raised {describe_raised(error)}."
            raise EnvironmentFailure(what, f"Set self.{space} to a Gymnasium space in __init__.") from error
    check_statistics(env, name)
    return env


def close(env: gymnasium.Env[Any, Any], name: str, watch: Watch) -> None:
    """Close an environment. What it raises is a warning, because nothing depends on it any more."""
    try:
        watch.run(env.close)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        warnings.warn(f"{name}: close() raised {describe_raised(error)}.", RuntimeWarning, stacklevel=3)


def check_statistics(env: gymnasium.Env[Any, Any], name: str) -> None:
    """Refuse wrappers that normalise by running statistics: evaluation, `resume` and a deployed policy lack those.

    Raises:
        UsageError: a wrapper has statistics of observations or of returns.
    """
    for layer in layers(env):
        kind = type(layer).__name__
        if hasattr(layer, "return_rms"):
            what = f"{name} has the wrapper {kind}, whose running statistics are not saved with the run."
            raise UsageError(what, "Remove the wrapper, and scale rewards by a constant (TransformReward).")
        if hasattr(layer, "obs_rms"):
            what = f"{name} has the wrapper {kind}, whose running statistics are not saved with the policy."
            raise UsageError(what, "Remove the wrapper, and give --normalise (in Python normalise=True) instead.")


def layers(env: gymnasium.Env[Any, Any]) -> Iterator[gymnasium.Env[Any, Any]]:
    """The wrappers of an environment from the outermost, then the environment itself."""
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
    yield env


def source_name(source: Source) -> str:
    """The name of an environment in messages: an id, a class, or the function that makes it."""
    if isinstance(source, str):
        return source
    if isinstance(source, gymnasium.Env):
        return env_name(source)
    if isinstance(source, tuple):  # a PureEnv, whose module imports JAX
        return str(source.name)
    function = source.func if isinstance(source, functools.partial) else source
    return getattr(function, "__name__", type(function).__name__)


def env_name(env: gymnasium.Env[Any, Any]) -> str:
    """The name of an environment that exists: its id, or its class."""
    return env.spec.id if env.spec else type(env.unwrapped).__name__


def time_limit(env: gymnasium.Env[Any, Any]) -> int | None:
    """Steps after which a TimeLimit wrapper truncates, or None. A limit inside the environment cannot be seen."""
    if isinstance(env, Elsewhere):
        return env.limit
    limits = [int(layer._max_episode_steps) for layer in layers(env) if isinstance(layer, TimeLimit)]
    return min(limits, default=None)
