"""Makes the environments of a run and of its evaluation."""

from __future__ import annotations

import gymnasium

from estep.envs import gymnasium as envs
from estep.envs.base import HostEnv
from estep.envs.build import EVAL, Source, copyable, source_name
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
    """Make the environments for training or for evaluation.

    Args:
        env: a Gymnasium id, an instance, or a function that makes an environment.
        config: how many environments, seed, and limits.
        context: what to do if the environment hangs.
        stream: TRAIN or EVAL.
    """
    evaluating = stream == EVAL
    count = min(config.eval_episodes, SIDE_BY_SIDE) if evaluating else config.num_envs
    if evaluating and not (isinstance(env, str) or callable(env)):
        count = 1
    cap = config.max_episode_steps if evaluating else None
    return envs.make(
        env,
        num_envs=count,
        seed=config.seed,
        stream=stream,
        max_episode_steps=cap,
        timeout=config.env_timeout,
        on_hang=context.on_hang,
    )


def check_source(env: Source) -> None:
    """Check before training that evaluation can make a second environment.

    Raises:
        UsageError: the environment is an instance that gymnasium.make did not make.
    """
    if isinstance(env, gymnasium.Env):
        copyable(env, source_name(env))


def time_limit_note(env: HostEnv, run: RunConfig) -> str | None:
    """A note on the length of evaluation episodes, if the environment has no time limit; else None."""
    if not env.describe()["time limit"].startswith("none"):
        return None
    return (
        f"note     no time limit: evaluation episodes end after {run.max_episode_steps:,} steps (--max-episode-steps)"
    )


SIDE_BY_SIDE = 10
"""Largest number of environments in an evaluation. The policy acts for all of them in one call."""
