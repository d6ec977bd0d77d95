"""The prior of another run, taken as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from estep.algorithms.several_tasks.default_policy import DefaultPolicy
from estep.core.agent import Agent, Algorithm
from estep.errors import UsageError
from estep.policy.policy import load
from estep.priors.tempered import Tempered


def with_frozen_prior(agent: Agent, algorithm: Algorithm, normalise: bool) -> Agent:
    """A fresh agent with the prior of the run that its algorithm names; the agent itself where it names none.

    Args:
        agent: the agent.
        algorithm: its algorithm.
        normalise: whether observations of the new run are normalised.

    Raises:
        RejectedInput: the named folder is no run folder.
        UsageError: the prior is of other sizes, sees other places, or either run normalises observations.
    """
    path = algorithm.freeze_prior if isinstance(algorithm, DefaultPolicy) else ""
    if not path:
        return agent
    policy = load(Path(path))
    if normalise or policy.moments is not None:
        raise UsageError(
            "A frozen prior sees observations as in its own run, and --normalise scales them by those of each run.",
            "Leave out --normalise in both runs.",
        )
    found: Any = policy.agent.prior.slow
    mine: Any = agent.prior.model
    base = found.base if isinstance(found, Tempered) else found
    if _shapes(base) != _shapes(mine.base):
        raise UsageError(
            f"The prior of {path} has other sizes than this run's, or sees other places of the observation.",
            "Give the --prior-sees, --hidden-sizes and --network of that run, and an environment of the same sizes.",
        )
    return replace(agent, prior=replace(agent.prior, model=replace(mine, base=base)))


def _shapes(prior: Any) -> Any:
    """What two priors must have alike."""
    leaves, structure = jax.tree.flatten(prior)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
