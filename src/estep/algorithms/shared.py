"""What several rows are built from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import jax.numpy as jnp

from estep.core.acting import act_from_posterior
from estep.core.agent import Agent
from estep.core.learned import learn
from estep.core.slots import Likelihood, Prior, Projection
from estep.core.types import Clip, Key, Spec
from estep.e_steps.plans import Planner, Proposal
from estep.inference.smc import SMC
from estep.likelihoods.dynamics import WorldModel, ensemble, optimiser
from estep.likelihoods.imagined import OfCritic
from estep.likelihoods.q_function import q_of
from estep.likelihoods.targets import TARGETS
from estep.m_steps import trust_region
from estep.m_steps.multipliers import inside_box

Row = TypeVar("Row")

TRUST_REGIONS: Mapping[str, tuple[trust_region.Split, trust_region.Measure]] = {
    "per-dimension": (trust_region.decoupled, trust_region.per_dimension),
    "joint": (trust_region.decoupled, trust_region.joint),
    "coupled": (trust_region.coupled, trust_region.joint),
}
"""What is bounded, by the name that the setting `trust_region` has for it."""


def q_critic(row: Any, spec: Spec, key: Key) -> Likelihood:
    """Action values of a row that names what they are regressed on."""
    return q_of(row, spec, TARGETS[row.target](row.unroll), key=key)


def weighted_region(
    row: Any, spec: Spec, prior: Prior, split: trust_region.Split, measure: trust_region.Measure
) -> Projection:
    """How a policy is fitted to weighted samples of its slow copy: near that copy, and inside the box to which actions
    are clipped."""
    example = prior(jnp.zeros(spec.obs_dim))
    box = inside_box(row.epsilon_box, 10.0) if row.epsilon_box and isinstance(spec.squash, Clip) else None
    bounds = (row.epsilon_mean, 10.0), (row.epsilon_scale, 1000.0)
    return trust_region.trust_region(example, bounds, box, *trust_region.form_for(example, split, measure))


def without_more(kind: type[Row], row: Any, **own: Any) -> Row:
    """The algorithm that a row extends, with those of the row's settings that it has too.

    Args:
        kind: the algorithm.
        row: the row.
        own: settings of the algorithm that the row does not have.
    """
    names = [field.name for field in dataclasses.fields(kind) if field.name not in own and hasattr(row, field.name)]  # type: ignore[arg-type]
    return kind(**{name: getattr(row, name) for name in names}, **own)


def with_model(row: Any, agent: Agent, key: Key) -> Agent:
    """An agent that learns a model of the environment beside its critic, from the same batches.

    Args:
        row: an algorithm with the settings of `WorldModel`.
        agent: the agent without a model.
        key: a random key.
    """
    made = ensemble(agent.spec, row.model_hidden_sizes, row.members, row.model_every, key=key)
    old: Any = agent.likelihood
    model = WorldModel(old.model, made)
    likelihood = learn(model, optimiser(model, old.tx, row.model_rate), tau=old.tau, every=old.every)
    critics = {name: OfCritic(getattr(agent, name)) for name in ("training_critic", "acting_critic")}
    return replace(agent, likelihood=likelihood, **critics)


def planner(row: Any, power: float = 1.0, proposal: Proposal = act_from_posterior) -> Planner:
    """How a row acts by plans.

    Args:
        row: an algorithm with the settings of `Plans`.
        power: κ.
        proposal: the policy from which a search draws its actions.
    """
    search = SMC(row.particles, row.horizon, row.gamma, row.resample, power, row.dynamics)
    return Planner(search, proposal, row.value_samples, row.eval_with)
