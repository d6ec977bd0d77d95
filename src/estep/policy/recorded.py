"""`estep eval`: evaluates the policy of a run folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from estep.core.agent import Agent
from estep.e_steps.plans import Planner
from estep.envs.build import FRESH
from estep.envs.tasks.sources import Given
from estep.policy import cache, policy
from estep.policy.environments import chosen_env, make_env, time_limit_note
from estep.policy.evaluate import Evaluation
from estep.policy.job import RunContext, note_reason
from estep.policy.spaces import check_task


class EvalSettings(NamedTuple):
    """The episodes of an evaluation."""

    episodes: int = 10
    """How many episodes."""
    seed: int | None = None
    """Seed of the episodes; None takes the run's seed."""
    max_episode_steps: int | None = None
    """Largest length of an episode, for an environment without a time limit; None takes the run's setting."""
    deterministic: bool = True
    """Whether the action is squash(mode of q); otherwise it is sampled from q."""
    task: str = ""
    """The name of the only task that is wanted; empty takes all."""


class EvalResult(NamedTuple):
    """An evaluation, and the checkpoint that was evaluated."""

    evaluation: Evaluation
    run_dir: Path
    env_steps: int
    updates: int


def evaluate_run(
    run_dir: Path,
    *,
    checkpoint: str = "best",
    settings: EvalSettings | None = None,
    env: Given | None = None,
    allow_import: bool = False,
    change: Callable[[Agent], Agent] | None = None,
    eval_with: str | None = None,
    context: RunContext,
) -> EvalResult:
    """Evaluate a checkpoint of a run. Equal seeds give equal numbers.

    Args:
        run_dir: the run folder.
        checkpoint: "best", "latest", or a number of environment steps.
        settings: the episodes; None takes the defaults.
        env: the environment, or those of all tasks; None takes the recorded ones.
        allow_import: whether the modules that the run folder names may be imported.
        change: a function that changes the agent before the evaluation, such as its inference optimiser.
        eval_with: whether an algorithm that plans acts by "plan" or by "policy"; None takes its own setting, and the
            policy where the agent is changed.
        context: reports and stops.

    Raises:
        RejectedInput: the folder is not a run folder, or has no such good checkpoint.
        UsageError: the environment must be given again.
        EnvironmentFailure: the environment raised, hung or gave too many bad transitions.
    """
    note_reason(cache.use_cache(), context.report)
    trained = policy.load(run_dir, checkpoint, allow_import=allow_import)
    trained, planned = acting(trained, change, eval_with)
    settings = settings or EvalSettings()
    if settings.task:
        check_task(settings.task, list(trained.tasks))
    source = chosen_env(trained.recipe, env, allow_import)
    how = "deterministic actions" if settings.deterministic else "sampled actions"
    context.report.note(
        f"evaluating {trained.run_dir} at {trained.env_steps:,} steps with {how}{planned}, on fresh episodes"
    )
    changes: dict[str, Any] = {"eval_episodes": settings.episodes, "seed": settings.seed}
    changes["max_episode_steps"] = settings.max_episode_steps
    config = dataclasses.replace(trained.recipe.run, **{name: v for name, v in changes.items() if v is not None})
    made = make_env(source, config, context, FRESH, settings.task, list(trained.tasks))
    note_reason(time_limit_note(made, config), context.report)
    evaluation = trained.evaluate_with(made, config, settings.deterministic, settings.task)
    return EvalResult(evaluation, trained.run_dir, trained.env_steps, trained.updates)


def acting(
    trained: policy.Policy, change: Callable[[Agent], Agent] | None, eval_with: str | None
) -> tuple[policy.Policy, str]:
    """The policy as it is to act, and of one that plans the words that say which way.

    Args:
        trained: the policy.
        change: a function that changes its agent; None for none.
        eval_with: as `evaluate_run` takes it.
    """
    if change is not None:
        trained = trained.changed(change)
    planner = trained.agent.behave
    if eval_with is None and isinstance(planner, Planner):
        eval_with = planner.eval_with if change is None else "policy"
    return (trained, "") if eval_with is None else (trained.acting_by(eval_with), f" of its {eval_with}")
