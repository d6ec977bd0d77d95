"""`estep eval`: the returns of a recorded run's policy."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from estep.envs.build import Source
from estep.experiment import cache, policy
from estep.experiment.evaluate import Evaluation
from estep.experiment.run import Job, chosen_env, explain


class Judged(NamedTuple):
    """An evaluation and the policy it is of."""

    evaluation: Evaluation
    run_dir: Path
    env_steps: int
    updates: int


def evaluate_run(
    run_dir: Path,
    *,
    episodes: int = 10,
    checkpoint: str = "best",
    seed: int | None = None,
    env: Source | None = None,
    allow_import: bool = False,
    job: Job,
) -> Judged:
    """Evaluate a checkpoint of a run. Equal seeds give equal numbers.

    Raises:
        RejectedInput: not a run folder, or no such sound checkpoint.
        UsageError: the environment must be named again.
        EnvironmentFailure: the environment raised, hung or gave too many bad transitions.
    """
    explain(cache.use_cache(), job.report)
    found = policy.load(run_dir, checkpoint)
    source = chosen_env(found.recipe, env, allow_import)
    job.report.note(f"evaluating {found.run_dir} at {found.env_steps:,} steps, deterministic action")
    if found.recipe.run.max_episode_steps and isinstance(source, str):
        job.report.note(f"an environment without a time limit is cut at {found.recipe.run.max_episode_steps} steps")
    chosen = found.recipe.run.seed if seed is None else seed
    return Judged(found.evaluate_on(source, episodes, chosen, job.on_hang), found.run_dir, found.env_steps, found.updates)
