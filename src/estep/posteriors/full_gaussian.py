"""The Gaussian posterior with a full covariance."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.protocols import Distribution, Lam, Posterior
from estep.distributions.full_normal import FullNormal, below_diagonal, strictly_lower
from estep.distributions.noise import Noise, independent
from estep.nets import soft_bound
from estep.posteriors.gaussian import LEAST_VARIANCE, nearby


class FullGaussian(Posterior):
    """q(u; λ) = N(μ, L Lᵀ), L = diag(σ) (I + N), with λ = (μ, log σ, N below its diagonal, row by row)."""

    action: int = eqx.field(static=True)
    noise: Noise = eqx.field(static=True, default=independent)
    sigma: float = eqx.field(static=True, default=0.5)
    """The standard deviation at which inference starts where the prior is not a Gaussian itself."""

    @property
    def parts(self) -> tuple[int, ...]:
        return self.action, self.action, self.action * (self.action - 1) // 2

    @property
    def scales(self) -> int:
        return self.action

    def start(self, prior: Distribution) -> Lam:
        if isinstance(prior, FullNormal):
            return jnp.concatenate([prior.mu, prior.log_sigma, below_diagonal(prior.lower)])
        mu, log_sigma = nearby(prior, self.action, self.sigma)
        return jnp.concatenate([mu, log_sigma, jnp.zeros(self.parts[2], mu.dtype)])

    def bound(self, lam: Lam, low: Float[Array, " k"], high: Float[Array, " k"]) -> Lam:
        mu, log_sigma, lower = self._split(lam)
        return jnp.concatenate([mu, soft_bound(log_sigma, low, high), lower])

    def __call__(self, lam: Lam) -> Distribution:
        mu, log_sigma, lower = self._split(lam)
        return FullNormal(mu, log_sigma, strictly_lower(lower, self.action), self.noise)

    def fit(self, action: Float[Array, "n a"], weight: Float[Array, " n"]) -> Lam:
        """The λ of greatest likelihood under n draws whose weights sum to one: their mean and covariance."""
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
"""Of the mean variance, added to each: fewer draws than dimensions have a singular covariance."""
