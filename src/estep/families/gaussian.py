"""Gaussians with independent dimensions: the density, and the family."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.slots import Distribution, Draws, Lam, Posterior
from estep.core.types import Action, Key, Scalar
from estep.families.noise import Noise, independent, log_density
from estep.nets import soft_bound


class Normal(Distribution):
    """N(μ, diag σ²) over the point u. Its samples are u = μ + σ ε.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import make_key
        >>> from estep.families.gaussian import Normal
        >>> q = Normal(mu=jnp.asarray([0.5, -1.0]), log_sigma=jnp.zeros(2))
        >>> round(float(q.log_prob(q.mode())), 3)  # -log 2π
        -1.838
        >>> draws = q.draw(make_key(0), 5, prior=Normal(jnp.zeros(2), jnp.zeros(2)))
        >>> print(draws.action.shape, draws.log_ratio)  # the KL itself, since it has a closed form
        (5, 2) [0.625 0.625 0.625 0.625 0.625]
    """

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
            return Draws(action, weight, jnp.full(n, gaussian_kl(self, prior)))
        # from the noise itself: (u - μ)/σ recomputed loses 7 nats at log σ = -20
        log_prob = jax.vmap(self._log_prob_of_noise)(noise)
        return Draws(action, weight, log_prob - jax.vmap(prior.log_prob)(action))

    def _point(self, noise: Float[Array, " a"]) -> Action:
        return self.mu + jnp.exp(self.log_sigma) * noise

    def _log_prob_of_noise(self, noise: Float[Array, " a"]) -> Scalar:
        return log_density(noise, self.log_sigma)


def gaussian_kl(q: Normal, p: Normal) -> Scalar:
    """KL(q‖p) = Σ_i ½(e^{2d_i} - 1 - 2d_i) + ½((μ_q - μ_p)_i/σ_p,i)², d = log σ_q - log σ_p, in nats.

    Near d = 0, where the first term is a difference of nearly equal numbers, it is a series. Two tanh-Gaussians have
    the KL of their Gaussians.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.gaussian import Normal, gaussian_kl
        >>> float(gaussian_kl(Normal(jnp.ones(2), jnp.zeros(2)), Normal(jnp.zeros(2), jnp.zeros(2))))
        1.0
    """
    d = q.log_sigma - p.log_sigma
    small = jnp.abs(d) < 0.01
    safe = jnp.where(small, 1.0, d)
    scale = jnp.where(
        small, jnp.square(d) * (1 + 2 * d / 3 + jnp.square(d) / 3), 0.5 * (jnp.expm1(2 * safe) - 2 * safe)
    )
    mean = 0.5 * jnp.square((q.mu - p.mu) * jnp.exp(-p.log_sigma))
    return (mean + scale).sum()


class Gaussian(Posterior):
    """q(u; λ) = N(μ, diag σ²) with λ = (μ, log σ). With a = tanh u it is the tanh-Gaussian of SAC.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.gaussian import Gaussian
        >>> q = Gaussian(action=2)(jnp.asarray([0.5, -1.0, 0.0, 0.0]))
        >>> print(q.mu, q.log_sigma)
        [ 0.5 -1. ] [0. 0.]
    """

    action: int = eqx.field(static=True)
    noise: Noise = eqx.field(static=True, default=independent)
    sigma: float = eqx.field(static=True, default=0.5)
    """The standard deviation at which inference starts where the prior is not a Gaussian itself."""

    @property
    def block_sizes(self) -> tuple[int, ...]:
        return self.action, self.action

    @property
    def num_scales(self) -> int:
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
        """The λ of greatest likelihood: the mean and the standard deviation of weighted samples.

        Args:
            action: samples u [n, a].
            weight: their weights, which sum to one.

        Example:
            >>> import jax.numpy as jnp
            >>> from estep.families.gaussian import Gaussian
            >>> action, weight = jnp.asarray([[-1.0], [1.0]]), jnp.asarray([0.5, 0.5])
            >>> print(Gaussian(action=1).fit(action, weight))
            [0. 0.]
        """
        mu = weight @ action
        variance = weight @ jnp.square(action - mu[None])
        return jnp.concatenate([mu, 0.5 * jnp.log(jnp.maximum(variance, LEAST_VARIANCE))])


LEAST_VARIANCE = 1e-30
"""Keeps the logarithm finite where all the weight is on one sample."""


def nearby(prior: Distribution, action: int, sigma: float) -> tuple[Float[Array, " a"], Float[Array, " a"]]:
    """(μ, log σ) of the prior if it is a diagonal Gaussian, else of N(0, σ²).

    Args:
        prior: any density.
        action: the size of the action.
        sigma: σ.
    """
    if isinstance(prior, Normal):
        return prior.mu, prior.log_sigma
    return jnp.zeros(action), jnp.full(action, math.log(sigma))
