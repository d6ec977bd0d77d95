"""How the M-step fits the prior to the posterior."""

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
"""A step of size one down the gradient: from a distance ½|θ - φ|², θ goes to φ."""


def copy_posterior(agent: Agent, draws: Draws, obs: Float[Array, "b o"]) -> tuple[Agent, Info]:
    """p ← q, of a prior that has the parameters of the inference network and learns by `FOLLOW`: the M-step of a
    parametric E-step. Its slow copy is the policy of a while ago."""
    now, wanted = (ravel_pytree(model)[0] for model in (agent.prior.model, agent.inference.model))
    return replace(agent, prior=replace(agent.prior, pending=Descent(now - wanted, jnp.asarray(True)))), {}
