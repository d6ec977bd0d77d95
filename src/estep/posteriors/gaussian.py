"""The Gaussian posterior; a tanh-Gaussian where the action space is bounded."""

from __future__ import annotations

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.protocols import Distribution, Lam, Posterior
from estep.distributions.noise import Noise, independent
from estep.distributions.normal import Normal
from estep.nets import soft_bound


class Gaussian(Posterior):
    """q(u; λ) = N(μ, diag σ²) with λ = (μ, log σ), and a = squash(u): with a tanh squash the tanh-Gaussian of SAC."""

    action: int = eqx.field(static=True)
    noise: Noise = eqx.field(static=True, default=independent)
    sigma: float = eqx.field(static=True, default=0.5)
    """The standard deviation at which inference starts where the prior is not a Gaussian itself."""

    @property
    def parts(self) -> tuple[int, ...]:
        return self.action, self.action

    @property
    def scales(self) -> int:
        return self.action

    def start(self, prior: Distribution) -> Lam:
        return jnp.concatenate(nearby(prior, self.action, self.sigma))

    def bound(self, lam: Lam, low: Float[Array, " k"], high: Float[Array, " k"]) -> Lam:
        mu, log_sigma = jnp.split(lam, 2)
        return jnp.concatenate([mu, soft_bound(log_sigma, low, high)])

    def __call__(self, lam: Lam) -> Distribution:
        mu, log_sigma = jnp.split(lam, 2)
        return Normal(mu, log_sigma, self.noise)

    def fit(self, action: Float[Array, "n a"], weight: Float[Array, " n"]) -> Lam:
        """The λ of greatest likelihood under n draws whose weights sum to one: their mean and standard deviation."""
        mu = weight @ action
        variance = weight @ jnp.square(action - mu[None])
        return jnp.concatenate([mu, 0.5 * jnp.log(jnp.maximum(variance, LEAST_VARIANCE))])


LEAST_VARIANCE = 1e-30
"""Keeps the logarithm finite where all the weight is on one draw."""


def nearby(prior: Distribution, action: int, sigma: float) -> tuple[Float[Array, " a"], Float[Array, " a"]]:
    """(μ, log σ) of the prior if it is a diagonal Gaussian, else of N(0, σ²)."""
    if isinstance(prior, Normal):
        return prior.mu, prior.log_sigma
    return jnp.zeros(action), jnp.full(action, math.log(sigma))
