"""The prior of another run, taken as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from estep.core.agent import Agent, Algorithm
from estep.core.slots import Prior
from estep.errors import UsageError
from estep.policy.policy import load
from estep.priors.restricted import Restricted
from estep.priors.tempered import Tempered


def named_by(algorithm: Algorithm) -> str:
    """The run whose prior an algorithm takes, by the setting `freeze_prior` where it has one; empty for none."""
    return str(getattr(algorithm, "freeze_prior", ""))


def check_no_frozen_prior(algorithm: Algorithm) -> None:
    """Refuse the prior of another run, which a population does not take. Raises UsageError."""
    if named_by(algorithm):
        raise UsageError(
            "A population learns the prior of each seed, and --freeze-prior takes that of one run.",
            "Leave out --freeze-prior, or train each seed in a run of its own, without --population.",
        )


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
    path = named_by(algorithm)
    if not path:
        return agent
    policy = load(Path(path))
    if normalise or policy.moments is not None:
        raise UsageError(
            "A frozen prior sees observations as in its own run, and --normalise scales them by those of each run.",
            "Leave out --normalise in both runs.",
        )
    kept, mine = taken_apart(policy.agent), taken_apart(agent)
    if kept[1] != mine[1] or _shapes(kept[0]) != _shapes(mine[0]):
        raise UsageError(
            f"The prior of {path} has other sizes than this run's, or sees other places of the observation.",
            "Give the --prior-sees, --hidden-sizes and --network of that run, and an environment of the same sizes.",
        )
    tempered: Any = agent.prior.model
    base = replace(tempered.base, inner=kept[0]) if isinstance(tempered.base, Restricted) else kept[0]
    return replace(agent, prior=replace(agent.prior, model=replace(tempered, base=base)))


def taken_apart(agent: Agent) -> tuple[Prior, tuple[int, ...]]:
    """The network of an agent's prior, and the places of the observation that it sees.

    Where a run has one task, all of its observation may be what is the state among several tasks.
    """
    prior = agent.prior.slow
    base = prior.base if isinstance(prior, Tempered) else prior
    return (base.inner, base.seen) if isinstance(base, Restricted) else (base, tuple(range(agent.spec.obs_dim)))


def _shapes(prior: Prior) -> Any:
    """What two priors must have alike."""
    leaves, structure = jax.tree.flatten(prior)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
