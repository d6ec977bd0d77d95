"""A Gaussian for each dimension of u given those before it: bent and fanned out, unlike any joint Gaussian."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.protocols import Distribution, Draws
from estep.core.types import Action, Key, Scalar
from estep.distributions.noise import Noise, independent


class AutoregressiveNormal(Distribution):
    """Π_i N(u_i; m_i(u_<i), σ_i(u_<i)²) with t = tanh u, m = μ + A t and log σ = s + tanh(B) t / (a - 1), where A and B
    are strictly lower triangular (an affine autoregressive flow of one layer, Papamakarios et al. 2017,
    arXiv:1705.07057, linear in the squashed predecessors).

    The slopes of log σ are limited so that a conditional scale stays within a factor e of exp(s).
    """

    mu: Float[Array, " a"]
    log_sigma: Float[Array, " a"]
    bend: Float[Array, "a a"]
    """A; zero on and above the diagonal."""
    fan: Float[Array, "a a"]
    """B; zero on and above the diagonal."""
    noise: Noise = eqx.field(static=True, default=independent)

    def sample(self, key: Key) -> Action:
        return self._point(jax.random.normal(key, self.mu.shape))

    def log_prob(self, action: Action) -> Scalar:
        mean, log_sigma = self.conditional(action)
        return _log_prob_of_noise((action - mean) * jnp.exp(-log_sigma), log_sigma)

    def mode(self) -> Action:
        """Every dimension at its mean, given those before it."""
        return self._point(jnp.zeros_like(self.mu))

    def draw(self, key: Key, n: int, prior: Distribution) -> Draws:
        noise = self.noise(key, n, self.mu.shape[0])
        action = jax.vmap(self._point)(noise)
        # as in `Normal`: the noise recomputed from u loses its digits
        log_prob = jax.vmap(lambda u, noise: _log_prob_of_noise(noise, self.conditional(u)[1]))(action, noise)
        return Draws(action, jnp.full(n, 1.0 / n), log_prob - jax.vmap(prior.log_prob)(action))

    def conditional(self, action: Action) -> tuple[Float[Array, " a"], Float[Array, " a"]]:
        """Mean and log standard deviation of each dimension given those before it."""
        before = jnp.tanh(action)
        slope = jnp.tanh(self.fan) / max(1, self.mu.shape[0] - 1)
        return self.mu + self.bend @ before, self.log_sigma + slope @ before

    def _point(self, noise: Float[Array, " a"]) -> Action:
        def sweep(_: int, action: Action) -> Action:
            mean, log_sigma = self.conditional(action)
            return mean + jnp.exp(log_sigma) * noise

        # a sweep settles at least one more dimension: the first needs no other, each other only those before it
        action: Array = jax.lax.fori_loop(0, self.mu.shape[0], sweep, jnp.zeros_like(self.mu))
        return action


def _log_prob_of_noise(noise: Float[Array, " a"], log_sigma: Float[Array, " a"]) -> Scalar:
    return (-0.5 * jnp.square(noise) - log_sigma - 0.5 * math.log(2 * math.pi)).sum()
