"""A prior of two levels, and the M-step that fits it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.keys import make_key
from estep.core.slots import Distribution, Draws, Posterior, Prior
from estep.core.types import Info, Key, Obs, Scalar, Squash
from estep.families.gaussian import Normal
from estep.families.levels import LowLevel, OverLatents


class LevelPrior(Prior):
    """p(z|x) p(u|z,x). Its lower level is that of the policy, which is then free, or one of its own.

    p(z|x) is N(0, I) or a network; with ρ above 0 it is an AR(1) process, z_t ~ N(μ + ρ (z_{t-1} - μ), (1 - ρ²) σ²).

    Source:
        Tirumala et al. 2019, arXiv:1903.07438.
    """

    top: Prior | None
    """From the state to p(z|x); None for N(0, I)."""
    bottom: LowLevel | None
    """None where policy and prior have their lower level in common."""
    family: Posterior
    """Of the lower level."""
    latent: int = eqx.field(static=True)
    """k, the size of z."""
    rho: float = eqx.field(static=True)
    share: float = eqx.field(static=True)
    """The share of the KL in both prices."""
    squash: Squash

    def __call__(self, obs: Obs) -> Distribution:
        top: Any = Normal(jnp.zeros(self.latent), jnp.zeros(self.latent)) if self.top is None else self.top(obs)
        bottom = self.bottom
        if bottom is None:
            return OverLatents(top, None, self.rho, self.squash, self.share)
        return OverLatents(top, Below(bottom, obs, self.family), self.rho, self.squash, self.share)


class Below(eqx.Module):
    """From z to p(u|z,x) in one state."""

    bottom: LowLevel
    obs: Obs
    family: Posterior

    def __call__(self, z: Float[Array, " k"]) -> Distribution:
        return self.family(self.bottom(self.obs, z, self.family))


def fit_levels(agent: Agent, draws: Draws, obs: Float[Array, "b o"]) -> tuple[Agent, Info]:
    """An M-step: min_θ E_s of the KL of both levels, whose z are samples of the policy's upper level.

    For the upper level this is max_θ E_q log p_θ(z|x), without noise. The policy gets no gradient.

    Args:
        agent: the agent after the E-step.
        draws: not used: they are actions, and the samples of z are made again.
        obs: the states.
    """
    keys = jax.random.split(jax.random.fold_in(make_key(0), agent.prior.count), obs.shape[0])

    def policy(obs: Obs, key: Key) -> Any:
        problem = agent.problem(agent.likelihood.model, obs)
        return agent.posterior(agent.inference.model(problem, agent.posterior, key).lam)

    inferred = sg(jax.vmap(policy)(obs, keys))

    def loss(prior: Prior) -> tuple[Scalar, Info]:
        kl = jax.vmap(lambda q, s: q.level_kl(prior(s)))(inferred, obs).mean()
        return kl, {"m/levels": kl}

    prior, info = agent.prior.descend(loss)
    return replace(agent, prior=prior), info
