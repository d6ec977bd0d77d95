"""The environments of a run and of its evaluation."""

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
    """The environment of a recorded run: its id, unless that would import a module that nobody named.

    Raises:
        UsageError: the run needs its environment, or consent to import its module, from the caller.
    """
    if env is not None:
        if isinstance(env, str) and recipe.by_id and env != recipe.env:
            raise UsageError(
                f"This run is of {recipe.env}, not of {env}.", f"Give --env {recipe.env}, or leave it out."
            )
        return env
    if not recipe.by_id:
        raise UsageError(f"This run's environment, {recipe.env}, was made by a function.", "Pass that function as env.")
    if ":" in recipe.env and not allow_import:
        raise UsageError(
            f"This run's environment would import the module {recipe.env.rpartition(':')[0]}.",
            f"If you trust it, give --env {recipe.env} or --allow-import.",
        )
    return recipe.env


def make_env(env: Source, config: RunConfig, job: RunContext, stream: int) -> HostEnv:
    """The environments of training, or those of evaluation."""
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
        on_hang=job.on_hang,
    )


def check_source(env: Source) -> None:
    """Refuse at once an environment of which evaluation could not make a second one.

    Raises:
        UsageError: an instance that gymnasium.make did not make.
    """
    if isinstance(env, gymnasium.Env):
        copyable(env, source_name(env))


def cut_note(env: HostEnv, run: RunConfig) -> str | None:
    """That evaluation episodes are cut, where the environment itself never ends them."""
    if not env.describe()["time limit"].startswith("none"):
        return None
    return f"note     no time limit: evaluation episodes are cut at {run.max_episode_steps:,} steps"


SIDE_BY_SIDE = 10
"""Environments stepped together in an evaluation: one call of the policy serves them all."""
