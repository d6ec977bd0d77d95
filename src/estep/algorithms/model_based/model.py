"""What rows with a model of the environment are built from: the agent of another row, with a model beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax

from estep.core.acting import act_from_posterior
from estep.core.agent import Agent
from estep.core.learned import learn
from estep.core.types import Key
from estep.e_steps.plans import Planner, Proposal
from estep.errors import UsageError
from estep.inference.smc import SMC
from estep.inference.starts import Starting, start_of
from estep.likelihoods.dynamics import WorldModel, ensemble, optimiser
from estep.likelihoods.imagined import Expand, OfCritic, Returns
from estep.settings.kinds import refused


def check_model(row: Any) -> None:
    """Check what the settings of a model must agree on.

    Raises:
        UsageError: more members are used than there are; one member is to be pessimistic about its spread; or the
            critic is to be pessimistic about differences, which imagined steps have not.
    """
    if row.members_used > row.members:
        raise refused("members_used", row.members_used, f"between 1 and {row.members}, the members")
    if row.model_beta > 0 and row.members_used == 1:
        raise UsageError(
            "--model-beta is about the spread of the members that estimate a return, and --members-used is 1.",
            "Give --members-used 2 or more, or leave out --model-beta.",
        )
    if row.horizon and row.pessimism == "difference":
        raise UsageError(
            "--pessimism difference compares actions in the state in which inference starts, and imagined steps leave "
            "that state.",
            "Give --pessimism value, or --horizon 0.",
        )


def with_model(agent: Agent, row: Any, key: Key) -> Agent:
    """An agent that learns a model of the environment beside its critic, and infers on returns of imagined steps.

    With a horizon of 0 it infers on the critic, as it did. An optimiser that iterates has no place in imagined steps:
    they follow where it starts, and so the critic's target is the value of this start.

    Args:
        agent: an agent whose critic has action values.
        row: the settings of the model, those of the group `WorldModel`, and `gamma`.
        key: a random key.
    """
    agent = beside(agent, row, key)
    if not row.horizon:
        return agent
    soft = agent.bootstrap(agent).soft
    returns = Returns(row.horizon, row.gamma, row.model_lambda, soft, row.members_used, row.model_beta)
    targeting = start_of if isinstance(agent.inference.model, Starting) else agent.targeting
    return replace(agent, view=Expand(returns), targeting=targeting)


def beside(agent: Agent, row: Any, key: Key) -> Agent:
    """An agent that learns a model of the environment beside its critic, and acts and infers as it did.

    Args:
        agent: an agent whose critic has action values.
        row: the settings of the model, those of the group `WorldModel`.
        key: a random key.
    """
    own, made = agent.likelihood, jax.random.fold_in(key, KEY_OF_MODEL)
    dynamics = ensemble(agent.spec, row.model_hidden_sizes, row.members, row.model_every, key=made)
    model = WorldModel(own.model, dynamics)
    tau = None if own.target is None else own.tau
    return replace(
        agent,
        likelihood=learn(model, optimiser(model, own.tx, row.model_rate), tau=tau, every=own.every),
        training_critic=OfCritic(agent.training_critic),
        acting_critic=OfCritic(agent.acting_critic),
    )


def planner(row: Any, horizon: int, power: float = 1.0, proposal: Proposal = act_from_posterior) -> Planner:
    """How a row acts by plans.

    Args:
        row: an algorithm with the settings of `Plans`.
        horizon: h, the imagined steps of a search.
        power: κ.
        proposal: the policy from which a search draws its actions.

    Raises:
        UsageError: an imagined step is to be weighed by more members than there are.
    """
    if row.plan_members > row.members:
        raise refused("plan_members", row.plan_members, f"between 0 and {row.members}, the members")
    search = SMC(row.particles, horizon, row.gamma, row.resample, power, row.dynamics, row.plan_members)
    return Planner(search, proposal, row.value_samples, row.eval_with)


KEY_OF_MODEL = 0x30DE1
"""Any number, so that the networks of the agent are those that it has without a model."""
