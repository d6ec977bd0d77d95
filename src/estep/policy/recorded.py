"""`estep eval`: the returns of a recorded run's policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from estep.core.agent import Agent
from estep.envs.build import EVAL, Source
from estep.policy import cache, policy
from estep.policy.environments import chosen_env, cut_note, make_env
from estep.policy.evaluate import Evaluation
from estep.policy.job import RunContext, explain


class EvalSettings(NamedTuple):
    """Which episodes a policy is judged by."""

    episodes: int = 10
    seed: int | None = None
    """None: the run's own."""
    max_episode_steps: int | None = None
    """Cap on an episode of an environment without a time limit; None: the run's own."""
    deterministic: bool = True
    """Take squash(mode of q); otherwise a draw of q."""


class EvalResult(NamedTuple):
    """An evaluation and the policy it is of."""

    evaluation: Evaluation
    run_dir: Path
    env_steps: int
    updates: int


def evaluate_run(
    run_dir: Path,
    *,
    checkpoint: str = "best",
    trial: EvalSettings | None = None,
    env: Source | None = None,
    allow_import: bool = False,
    change: Callable[[Agent], Agent] | None = None,
    job: RunContext,
) -> EvalResult:
    """Evaluate a checkpoint of a run, or the agent that `change` makes of it. Equal seeds give equal numbers.

    Raises:
        RejectedInput: not a run folder, or no such sound checkpoint.
        UsageError: the environment must be named again.
        EnvironmentFailure: the environment raised, hung or gave too many bad transitions.
    """
    explain(cache.use_cache(), job.report)
    found = policy.load(run_dir, checkpoint, allow_import=allow_import)
    if change is not None:
        found = found.changed(change)
    source = chosen_env(found.recipe, env, allow_import)
    trial = trial or EvalSettings()
    how = "deterministic action" if trial.deterministic else "drawn actions"
    job.report.note(f"evaluating {found.run_dir} at {found.env_steps:,} steps, {how}")
    changes: dict[str, Any] = {"eval_episodes": trial.episodes, "seed": trial.seed}
    changes["max_episode_steps"] = trial.max_episode_steps
    config = dataclasses.replace(found.recipe.run, **{name: v for name, v in changes.items() if v is not None})
    made = make_env(source, config, job, EVAL)
    explain(cut_note(made, config), job.report)
    return EvalResult(
        found.evaluate_with(made, config, trial.deterministic), found.run_dir, found.env_steps, found.updates
    )
