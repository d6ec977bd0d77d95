"""The autoregressive posterior: each dimension given those before it."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.protocols import Distribution, Lam, Posterior
from estep.distributions.autoregressive import AutoregressiveNormal
from estep.distributions.full_normal import below_diagonal, strictly_lower
from estep.distributions.noise import Noise, independent
from estep.nets import soft_bound
from estep.posteriors.gaussian import nearby


class Autoregressive(Posterior):
    """q(u; λ) = Π_i N(u_i; μ_i + A_i·t, exp(s_i + tanh(B_i)·t/(a-1))²), t the tanh of the dimensions before i, with
    λ = (μ, s, A, B), the matrices below their diagonals, row by row. At A = B = 0 it is the diagonal Gaussian."""

    action: int = eqx.field(static=True)
    noise: Noise = eqx.field(static=True, default=independent)
    sigma: float = eqx.field(static=True, default=0.5)
    """The standard deviation at which inference starts where the prior is not a Gaussian itself."""

    @property
    def parts(self) -> tuple[int, ...]:
        below = self.action * (self.action - 1) // 2
        return self.action, self.action, below, below

    @property
    def scales(self) -> int:
        return self.action

    def start(self, prior: Distribution) -> Lam:
        if isinstance(prior, AutoregressiveNormal):
            return jnp.concatenate([prior.mu, prior.log_sigma, below_diagonal(prior.bend), below_diagonal(prior.fan)])
        mu, log_sigma = nearby(prior, self.action, self.sigma)
        return jnp.concatenate([mu, log_sigma, jnp.zeros(2 * self.parts[2], mu.dtype)])

    def bound(self, lam: Lam, low: Float[Array, " k"], high: Float[Array, " k"]) -> Lam:
        mu, log_sigma, bend, fan = self._split(lam)
        return jnp.concatenate([mu, soft_bound(log_sigma, low, high), bend, fan])

    def __call__(self, lam: Lam) -> Distribution:
        mu, log_sigma, bend, fan = self._split(lam)
        bend, fan = (strictly_lower(entries, self.action) for entries in (bend, fan))
        return AutoregressiveNormal(mu, log_sigma, bend, fan, self.noise)

    def _split(self, lam: Lam) -> list[Array]:
        return jnp.split(lam, (self.action, 2 * self.action, 2 * self.action + self.parts[2]))
