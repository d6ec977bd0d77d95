"""M-steps without a fit: leave the prior as it is, or copy the posterior."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from estep.core.agent import Agent
from estep.core.learned import Descent, Learned
from estep.core.optim import Optimiser
from estep.core.slots import Draws, Prior, Projection
from estep.core.types import Info


class Keep(Projection):
    """Leave the prior as it is."""

    def __call__(self, prior: Learned[Prior], draws: Draws, obs: Float[Array, "b o"]) -> tuple[Learned[Prior], Info]:
        return prior, {}


def _follow(gradient: Any, state: Any, parameters: Any = None, *, sound: Bool[Array, ""]) -> tuple[Any, Any]:
    return jax.tree.map(lambda g: jnp.where(sound, -g, 0.0), gradient), state


FOLLOW: Optimiser = optax.GradientTransformationExtraArgs(lambda parameters: optax.EmptyState(), _follow)
"""θ - gradient: one step on the distance ½|θ - φ|² takes θ to φ."""


def copy_posterior(agent: Agent, draws: Draws, obs: Float[Array, "b o"]) -> tuple[Agent, Info]:
    """p ← q: the M-step of a parametric E-step. The slow copy of the prior is then the policy of some updates ago.

    Args:
        agent: an agent whose prior has the parameters of the inference network and the optimiser `FOLLOW`.
        draws: not used.
        obs: not used.

    Returns:
        The agent with the prior's step pending, and nothing to log.
    """
    now, wanted = (ravel_pytree(model)[0] for model in (agent.prior.model, agent.inference.model))
    return replace(agent, prior=replace(agent.prior, pending=Descent(now - wanted, jnp.asarray(True)))), {}
