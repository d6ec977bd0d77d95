"""Makes the environments of a run and of its evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import gymnasium

from estep.core.types import Floats
from estep.envs import gymnasium as envs
from estep.envs.base import HostEnv
from estep.envs.build import EVAL, TRAIN, Source
from estep.envs.second import WITHOUT, build_again
from estep.errors import UsageError
from estep.policy.job import RunContext
from estep.runs.config_file import Recipe
from estep.settings.run import RunConfig


def chosen_env(recipe: Recipe, env: Source | None, allow_import: bool) -> Source:
    """The environment of a recorded run.

    Args:
        recipe: the run's configuration.
        env: the environment that the user gave, or None.
        allow_import: whether the module of the recorded id may be imported.

    Raises:
        UsageError: the user must give the environment, or allow the import of its module.
    """
    if env is not None:
        if isinstance(env, str) and recipe.by_id and env != recipe.env:
            raise UsageError(
                f"This run has the environment {recipe.env}, not {env}.", f"Give --env {recipe.env}, or omit --env."
            )
        return env
    if not recipe.by_id:
        raise UsageError(
            f"This run's environment {recipe.env} was made by a Python function.",
            "Pass that function as env in Python.",
        )
    if ":" in recipe.env and not allow_import:
        raise UsageError(
            f"This run's environment needs the module {recipe.env.rpartition(':')[0]}, "
            "which estep does not import by itself.",
            f"If you trust the module, give --env {recipe.env} or --allow-import.",
        )
    return recipe.env


def make_env(env: Source, config: RunConfig, context: RunContext, stream: int) -> HostEnv:
    """Make the environments for training, or those for evaluating a policy that is not in training.

    Args:
        env: a Gymnasium id, an instance, or a function that makes an environment.
        config: how many environments, seed, and limits.
        context: what to do if the environment hangs.
        stream: TRAIN, EVAL or FRESH.
    """
    count = config.num_envs if stream == TRAIN else side_by_side(env, config)
    return envs.make(env, num_envs=count, **_options(config, context, stream)._asdict())


@contextmanager
def make_pair(env: Source, config: RunConfig, context: RunContext) -> Iterator[tuple[HostEnv, HostEnv | None]]:
    """The environments of a run: those of training, and those of its evaluations, which stay open as long.

    Raises:
        UsageError: no second environment can be made, or it has other spaces.
        EnvironmentFailure: estep cannot train on them.
    """
    with ExitStack() as stack:
        training = envs.make(env, num_envs=config.num_envs, **_options(config, context, TRAIN)._asdict())
        stack.callback(training.close)
        if not config.eval_episodes:
            yield training, None
            return
        made = build_again(env, side_by_side(env, config), training.envs)
        evaluation = envs.wrap(made, training.name, _options(config, context, EVAL))
        stack.callback(evaluation.close)
        check_equal_spaces(training, evaluation)
        yield training, evaluation


def _options(config: RunConfig, context: RunContext, stream: int) -> envs.Options:
    cap = None if stream == TRAIN else config.max_episode_steps
    return envs.Options(config.seed, stream, cap, config.env_timeout, context.on_hang, config.detect_resets)


def side_by_side(env: Source, config: RunConfig) -> int:
    """How many environments an evaluation has. An instance stands for one."""
    return 1 if isinstance(env, gymnasium.Env) else max(1, min(config.eval_episodes, SIDE_BY_SIDE))


def check_equal_spaces(training: envs.GymnasiumEnv, evaluation: envs.GymnasiumEnv) -> None:
    """Check that evaluation has the spaces of training, bounds and dtypes included. Raises UsageError."""
    for name in ("observation_space", "action_space"):
        mine, other = getattr(training.envs[0], name), getattr(evaluation.envs[0], name)
        if mine != other:
            what = f"{training.name}: the {name} of training is {mine}, but that of evaluation is {other}."
            fix = f"Pass a function that makes and configures the environment; or {WITHOUT}."
            raise UsageError(what, fix)


def compare_starts(training: HostEnv, evaluation: HostEnv | None, first: Floats) -> str | None:
    """A note if the environment for evaluation starts elsewhere from the seed of the first training episode.

    Args:
        training: the environments of training.
        evaluation: those of evaluation.
        first: the first observations of training [E, o].
    """
    if evaluation is None:
        return None
    start = evaluation.start_from(training.seed_of_episode(0))
    if start.tobytes() == first[0].tobytes():
        return None
    return (
        f"note     {training.name} starts differently from equal seeds, or evaluation has another environment than "
        "training: estep check-env tells"
    )


def time_limit_note(env: HostEnv, run: RunConfig) -> str | None:
    """A note on the length of evaluation episodes, if the environment has no time limit; else None."""
    if not env.describe()["time limit"].startswith(envs.NO_LIMIT):
        return None
    return (
        f"note     {envs.NO_LIMIT}: an evaluation episode that lasts longer is cut after "
        f"{run.max_episode_steps:,} steps (--max-episode-steps)"
    )


SIDE_BY_SIDE = 10
"""Largest number of environments in an evaluation. The policy acts for all of them in one call."""
