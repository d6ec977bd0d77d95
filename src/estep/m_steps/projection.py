"""M-steps without a fit: leave the prior as it is, or copy the posterior."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.learned import Descent, Learned
from estep.core.slots import Draws, Prior, Projection
from estep.core.types import Info


class Keep(Projection):
    """Leave the prior as it is."""

    def __call__(self, prior: Learned[Prior], draws: Draws, obs: Float[Array, "b o"]) -> tuple[Learned[Prior], Info]:
        return prior, {}


def copy_posterior(agent: Agent, draws: Draws, obs: Float[Array, "b o"]) -> tuple[Agent, Info]:
    """p ← q: the M-step of a parametric E-step. The slow copy of the prior is then the policy of some updates ago.

    Args:
        agent: an agent whose prior has the parameters of the inference network and the optimiser `core.optim.FOLLOW`.
        draws: not used.
        obs: not used.

    Returns:
        The agent with the prior's step pending, and nothing to log.
    """
    now, wanted = (ravel_pytree(model)[0] for model in (agent.prior.model, agent.inference.model))
    return replace(agent, prior=replace(agent.prior, pending=Descent(now - wanted, jnp.asarray(True)))), {}
