"""Functions of the caller that follow a run from Python and may stop it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from estep.envs.tasks.sources import Envs
from estep.policy.evaluate import Evaluation
from estep.policy.policy import Policy
from estep.runs.config_file import Recipe
from estep.training.trainer import Trainer


class RunState(NamedTuple):
    """What `on_step` and `on_evaluation` are called with: the state of the run at this moment.

    Example, a run that ends as soon as an evaluation is good enough:

        estep.train("sac", "Pendulum-v1", on_evaluation=lambda state: state.evaluation.mean > -200)
    """

    env_steps: int
    """Environment steps so far, over all environments together."""
    updates: int
    """Updates so far."""
    steps: int
    """Environment steps that the run is to take."""
    metrics: Mapping[str, float]
    """The latest numbers by name, as `estep explain` lists them: `return` and `success` of the last training episodes,
    and means over the updates since the last line of metrics.jsonl. It cannot be changed."""
    evaluation: Evaluation | None
    """The evaluation that was just made; None in `on_step`."""
    run_dir: Path
    """The run folder."""
    policy: Callable[[], Policy]
    """Call it for the policy of this moment, which acts, evaluates and saves. It copies the agent."""


def current_policy(recipe: Recipe, run_dir: Path, trainer: Trainer, env: Envs) -> Policy:
    """The policy of a trainer as it is now."""
    agent = jax.tree.map(jnp.copy, trainer.agent)  # the next update reuses the agent's arrays
    counts, host = trainer.counts, trainer.env
    moments = copy.deepcopy(trainer.moments)
    steps = counts.env_steps, counts.updates
    return Policy(
        recipe, agent, moments, host.action_space, *steps, run_dir, env, host.observation_space, tasks=dict(host.tasks)
    )
