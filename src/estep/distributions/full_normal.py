"""The Gaussian with a full covariance over u, by the Cholesky factor of its covariance."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from estep.core.protocols import Distribution, Draws
from estep.core.types import Action, Key, Scalar
from estep.distributions.noise import Noise, independent
from estep.distributions.normal import Normal, kl


class FullNormal(Distribution):
    """N(μ, L Lᵀ) over the point u with L = diag(σ) (I + N), N strictly lower triangular: u = μ + σ ⊙ (ε + N ε).

    The rows of L carry their own scale, so that a correlation stays what it is while a scale moves; log |L| = Σ log σ.
    """

    mu: Float[Array, " a"]
    log_sigma: Float[Array, " a"]
    """log of L's diagonal: the standard deviation of each dimension given those before it."""
    lower: Float[Array, "a a"]
    """N; zero on and above the diagonal."""
    noise: Noise = eqx.field(static=True, default=independent)

    def sample(self, key: Key) -> Action:
        return self._point(jax.random.normal(key, self.mu.shape))

    def log_prob(self, action: Action) -> Scalar:
        return self._log_prob_of_noise(unshear(self.lower, (action - self.mu) * jnp.exp(-self.log_sigma)))

    def mode(self) -> Action:
        return self.mu

    def draw(self, key: Key, n: int, prior: Distribution) -> Draws:
        noise = self.noise(key, n, self.mu.shape[0])
        action = jax.vmap(self._point)(noise)
        weight = jnp.full(n, 1.0 / n)
        if isinstance(prior, Normal):
            prior = FullNormal(prior.mu, prior.log_sigma, jnp.zeros_like(self.lower))
        if isinstance(prior, FullNormal):
            return Draws(action, weight, jnp.full(n, full_kl(self, prior)))
        log_prob = jax.vmap(self._log_prob_of_noise)(noise)  # as in `Normal`: recomputed it loses its digits
        return Draws(action, weight, log_prob - jax.vmap(prior.log_prob)(action))

    def _point(self, noise: Float[Array, " a"]) -> Action:
        return self.mu + jnp.exp(self.log_sigma) * (noise + self.lower @ noise)

    def _log_prob_of_noise(self, noise: Float[Array, " a"]) -> Scalar:
        return (-0.5 * jnp.square(noise) - self.log_sigma - 0.5 * math.log(2 * math.pi)).sum()


def full_kl(q: FullNormal, p: FullNormal) -> Scalar:
    """KL(q‖p) in nats. With M = L_p⁻¹ L_q, whose diagonal is σ_q/σ_p, it is that of the scales alone, exact near
    equality, plus half the squares of M below its diagonal and of L_p⁻¹ (μ_q - μ_p)."""
    scale = kl(Normal(p.mu, q.log_sigma), Normal(p.mu, p.log_sigma))
    ratio = jnp.exp(q.log_sigma - p.log_sigma)
    factor = unshear(p.lower, ratio[:, None] * (q.lower + jnp.eye(q.mu.shape[0], dtype=q.lower.dtype)))
    mean = unshear(p.lower, (q.mu - p.mu) * jnp.exp(-p.log_sigma))
    return scale + 0.5 * (jnp.square(jnp.tril(factor, -1)).sum() + jnp.square(mean).sum())


def unshear(lower: Float[Array, "a a"], x: Float[Array, "a ..."]) -> Float[Array, "a ..."]:
    """(I + N)⁻¹ x."""
    z: Array = solve_triangular(lower, x, lower=True, unit_diagonal=True)
    return z


def strictly_lower(entries: Float[Array, " l"], size: int) -> Float[Array, "a a"]:
    """The matrix with these entries below its diagonal, row by row, and zeros elsewhere."""
    return jnp.zeros((size, size), entries.dtype).at[np.tril_indices(size, -1)].set(entries)


def below_diagonal(matrix: Float[Array, "a a"]) -> Float[Array, " l"]:
    """The entries of a matrix below its diagonal, row by row."""
    return matrix[np.tril_indices(matrix.shape[0], -1)]
