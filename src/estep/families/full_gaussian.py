"""Gaussians with a full covariance: the density, and the family."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from estep.core.slots import Distribution, Draws, Lam, Posterior
from estep.core.types import Action, Key, Scalar
from estep.families.gaussian import LEAST_VARIANCE, Normal, gaussian_kl, nearby
from estep.families.noise import Noise, independent, log_density
from estep.nets import soft_bound


class FullNormal(Distribution):
    """N(μ, L Lᵀ) over the point u with L = diag(σ) (I + N), N strictly lower triangular: u = μ + σ ⊙ (ε + N ε).

    Each row of L has its own scale, so that a change of σ leaves correlations as they are; log |L| = Σ log σ.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.full_gaussian import FullNormal, strictly_lower
        >>> q = FullNormal(jnp.zeros(2), jnp.zeros(2), strictly_lower(jnp.asarray([0.5]), 2))
        >>> round(float(q.log_prob(jnp.zeros(2))), 3)
        -1.838
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
        return log_density(noise, self.log_sigma)


def full_kl(q: FullNormal, p: FullNormal) -> Scalar:
    """KL(q‖p) in nats.

    With M = L_p⁻¹ L_q, whose diagonal is σ_q/σ_p, it is the KL of the scales alone, which is exact near equality, plus
    half the squares of M below its diagonal, plus half the squares of L_p⁻¹ (μ_q - μ_p).

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.full_gaussian import FullNormal, full_kl
        >>> q, p = (FullNormal(jnp.full(2, mu), jnp.zeros(2), jnp.zeros((2, 2))) for mu in (1.0, 0.0))
        >>> float(full_kl(q, p))
        1.0
    """
    scale = gaussian_kl(Normal(p.mu, q.log_sigma), Normal(p.mu, p.log_sigma))
    ratio = jnp.exp(q.log_sigma - p.log_sigma)
    factor = unshear(p.lower, ratio[:, None] * (q.lower + jnp.eye(q.mu.shape[0], dtype=q.lower.dtype)))
    mean = unshear(p.lower, (q.mu - p.mu) * jnp.exp(-p.log_sigma))
    return scale + 0.5 * (jnp.square(jnp.tril(factor, -1)).sum() + jnp.square(mean).sum())


def unshear(lower: Float[Array, "a a"], x: Float[Array, "a ..."]) -> Float[Array, "a ..."]:
    """(I + N)⁻¹ x, for N strictly lower triangular."""
    z: Array = solve_triangular(lower, x, lower=True, unit_diagonal=True)
    return z


def strictly_lower(entries: Float[Array, " l"], size: int) -> Float[Array, "a a"]:
    """The matrix with these entries below its diagonal, row by row, and zeros elsewhere.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.full_gaussian import below_diagonal, strictly_lower
        >>> print(strictly_lower(jnp.asarray([1.0, 2.0, 3.0]), 3))
        [[0. 0. 0.]
         [1. 0. 0.]
         [2. 3. 0.]]
        >>> print(below_diagonal(strictly_lower(jnp.asarray([1.0, 2.0, 3.0]), 3)))
        [1. 2. 3.]
    """
    return jnp.zeros((size, size), entries.dtype).at[np.tril_indices(size, -1)].set(entries)


def below_diagonal(matrix: Float[Array, "a a"]) -> Float[Array, " l"]:
    """The entries of a matrix below its diagonal, row by row."""
    return matrix[np.tril_indices(matrix.shape[0], -1)]


class FullGaussian(Posterior):
    """q(u; λ) = N(μ, L Lᵀ), L = diag(σ) (I + N), with λ = (μ, log σ, N below its diagonal, row by row)."""

    action: int = eqx.field(static=True)
    noise: Noise = eqx.field(static=True, default=independent)
    sigma: float = eqx.field(static=True, default=0.5)
    """The standard deviation at which inference starts where the prior is not a Gaussian itself."""

    @property
    def block_sizes(self) -> tuple[int, ...]:
        return self.action, self.action, self.action * (self.action - 1) // 2

    @property
    def num_scales(self) -> int:
        return self.action

    def start(self, prior: Distribution) -> Lam:
        if isinstance(prior, FullNormal):
            return jnp.concatenate([prior.mu, prior.log_sigma, below_diagonal(prior.lower)])
        mu, log_sigma = nearby(prior, self.action, self.sigma)
        return jnp.concatenate([mu, log_sigma, jnp.zeros(self.block_sizes[2], mu.dtype)])

    def bound(self, lam: Lam, low: Float[Array, " k"], high: Float[Array, " k"]) -> Lam:
        mu, log_sigma, lower = self._split(lam)
        return jnp.concatenate([mu, soft_bound(log_sigma, low, high), lower])

    def __call__(self, lam: Lam) -> Distribution:
        mu, log_sigma, lower = self._split(lam)
        return FullNormal(mu, log_sigma, strictly_lower(lower, self.action), self.noise)

    def fit(self, action: Float[Array, "n a"], weight: Float[Array, " n"]) -> Lam:
        """The λ of greatest likelihood: the mean and the covariance of weighted samples.

        Args:
            action: samples u [n, a].
            weight: their weights, which sum to one.
        """
        mu = weight @ action
        deviation = action - mu[None]
        covariance = (weight[:, None] * deviation).T @ deviation
        ridge = RIDGE * jnp.trace(covariance) / self.action + LEAST_VARIANCE
        factor = jnp.linalg.cholesky(covariance + ridge * jnp.eye(self.action, dtype=mu.dtype))
        sigma = jnp.diagonal(factor)
        return jnp.concatenate([mu, jnp.log(sigma), below_diagonal(factor / sigma[:, None])])

    def _split(self, lam: Lam) -> list[Array]:
        return jnp.split(lam, (self.action, 2 * self.action))


RIDGE = 1e-5
"""This part of the mean variance is added to each: the covariance of fewer samples than dimensions is singular."""
