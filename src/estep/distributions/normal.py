"""The diagonal Gaussian over u. Behind a tanh squash it is the tanh-Gaussian: the Jacobian sits in the prior."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.protocols import Distribution, Draws
from estep.core.types import Action, Key, Scalar
from estep.distributions.noise import Noise, independent


class Normal(Distribution):
    """N(μ, diag σ²) over the point u."""

    mu: Float[Array, " a"]
    log_sigma: Float[Array, " a"]
    noise: Noise = eqx.field(static=True, default=independent)

    def sample(self, key: Key) -> Action:
        return self._point(jax.random.normal(key, self.mu.shape))

    def log_prob(self, action: Action) -> Scalar:
        return self._log_prob_of_noise((action - self.mu) * jnp.exp(-self.log_sigma))

    def mode(self) -> Action:
        return self.mu

    def draw(self, key: Key, n: int, prior: Distribution) -> Draws:
        noise = self.noise(key, n, self.mu.shape[0])
        action = jax.vmap(self._point)(noise)
        weight = jnp.full(n, 1.0 / n)
        if isinstance(prior, Normal):
            return Draws(action, weight, jnp.full(n, kl(self, prior)))
        # from the noise itself: (u - μ)/σ recomputed loses 7 nats at log σ = -20
        log_prob = jax.vmap(self._log_prob_of_noise)(noise)
        return Draws(action, weight, log_prob - jax.vmap(prior.log_prob)(action))

    def _point(self, noise: Float[Array, " a"]) -> Action:
        return self.mu + jnp.exp(self.log_sigma) * noise

    def _log_prob_of_noise(self, noise: Float[Array, " a"]) -> Scalar:
        return (-0.5 * jnp.square(noise) - self.log_sigma - 0.5 * math.log(2 * math.pi)).sum()


def kl(q: Normal, p: Normal) -> Scalar:
    """KL(q‖p) in nats. The scale part ½(e^{2d} - 1 - 2d), d = log σ_q - log σ_p, is expanded near d = 0, where the
    direct form is a difference of nearly equal numbers. Two tanh-Gaussians have the KL of their Gaussians."""
    d = q.log_sigma - p.log_sigma
    small = jnp.abs(d) < 0.01
    safe = jnp.where(small, 1.0, d)
    scale = jnp.where(
        small, jnp.square(d) * (1 + 2 * d / 3 + jnp.square(d) / 3), 0.5 * (jnp.expm1(2 * safe) - 2 * safe)
    )
    mean = 0.5 * jnp.square((q.mu - p.mu) * jnp.exp(-p.log_sigma))
    return (mean + scale).sum()
