"""Autoregressive Gaussians, each dimension given those before it: the density, and the family."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.slots import Distribution, Draws, Lam, Posterior
from estep.core.types import Action, Key, Scalar
from estep.families.full_gaussian import below_diagonal, strictly_lower
from estep.families.gaussian import nearby
from estep.families.noise import Noise, independent, log_density
from estep.nets import soft_bound


class AutoregressiveNormal(Distribution):
    """Π_i N(u_i; m_i(u_<i), σ_i(u_<i)²) with t = tanh u, m = μ + A t and log σ = s + tanh(B) t / (a - 1).

    A and B are strictly lower triangular. It is an affine autoregressive flow of one layer, linear in the squashed
    predecessors. The slopes of log σ are limited, so that a conditional scale stays within a factor e of exp(s).

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.autoregressive import AutoregressiveNormal
        >>> A = jnp.asarray([[0.0, 0.0], [2.0, 0.0]])
        >>> q = AutoregressiveNormal(jnp.asarray([10.0, 0.0]), jnp.zeros(2), bend=A, fan=0 * A)
        >>> print(q.mode().round(3))  # the second mean is 2 tanh(10)
        [10.  2.]

    Source:
        Affine autoregressive flows: Papamakarios et al. 2017, arXiv:1705.07057.
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
        return log_density((action - mean) * jnp.exp(-log_sigma), log_sigma)

    def mode(self) -> Action:
        """Each dimension at its mean given those before it."""
        return self._point(jnp.zeros_like(self.mu))

    def draw(self, key: Key, n: int, prior: Distribution) -> Draws:
        noise = self.noise(key, n, self.mu.shape[0])
        action = jax.vmap(self._point)(noise)
        # as in `Normal`: the noise recomputed from u loses its digits
        log_prob = jax.vmap(lambda u, noise: log_density(noise, self.conditional(u)[1]))(action, noise)
        return Draws(action, jnp.full(n, 1.0 / n), log_prob - jax.vmap(prior.log_prob)(action))

    def conditional(self, action: Action) -> tuple[Float[Array, " a"], Float[Array, " a"]]:
        """m and log σ of each dimension given those before it."""
        before = jnp.tanh(action)
        slope = jnp.tanh(self.fan) / max(1, self.mu.shape[0] - 1)
        return self.mu + self.bend @ before, self.log_sigma + slope @ before

    def _point(self, noise: Float[Array, " a"]) -> Action:
        def sweep(_: Array, action: Action) -> Action:
            mean, log_sigma = self.conditional(action)
            return mean + jnp.exp(log_sigma) * noise

        # each sweep makes one more dimension final: the first needs no other, and the rest only those before them
        action: Array = jax.lax.fori_loop(0, self.mu.shape[0], sweep, jnp.zeros_like(self.mu))
        return action


class Autoregressive(Posterior):
    """q(u; λ) = Π_i N(u_i; μ_i + A_i·t, exp(s_i + tanh(B_i)·t/(a-1))²), t the tanh of the dimensions before i.

    λ = (μ, s, A, B), of the matrices the part below the diagonal, row by row. At A = B = 0 it is the diagonal Gaussian.

    Example:
        >>> from estep.families.autoregressive import Autoregressive
        >>> Autoregressive(action=3).block_sizes
        (3, 3, 3, 3)
    """

    action: int = eqx.field(static=True)
    noise: Noise = eqx.field(static=True, default=independent)
    sigma: float = eqx.field(static=True, default=0.5)
    """The standard deviation at which inference starts where the prior is not a Gaussian itself."""

    @property
    def block_sizes(self) -> tuple[int, ...]:
        below = self.action * (self.action - 1) // 2
        return self.action, self.action, below, below

    @property
    def num_scales(self) -> int:
        return self.action

    def start(self, prior: Distribution) -> Lam:
        if isinstance(prior, AutoregressiveNormal):
            return jnp.concatenate([prior.mu, prior.log_sigma, below_diagonal(prior.bend), below_diagonal(prior.fan)])
        mu, log_sigma = nearby(prior, self.action, self.sigma)
        return jnp.concatenate([mu, log_sigma, jnp.zeros(2 * self.block_sizes[2], mu.dtype)])

    def bound(self, lam: Lam, low: Float[Array, " k"], high: Float[Array, " k"]) -> Lam:
        mu, log_sigma, bend, fan = self._split(lam)
        return jnp.concatenate([mu, soft_bound(log_sigma, low, high), bend, fan])

    def __call__(self, lam: Lam) -> Distribution:
        mu, log_sigma, bend, fan = self._split(lam)
        bend, fan = (strictly_lower(entries, self.action) for entries in (bend, fan))
        return AutoregressiveNormal(mu, log_sigma, bend, fan, self.noise)

    def _split(self, lam: Lam) -> list[Array]:
        return jnp.split(lam, (self.action, 2 * self.action, 2 * self.action + self.block_sizes[2]))
