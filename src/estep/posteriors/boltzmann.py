"""The Boltzmann posterior q(a|s) ∝ p(a|s) exp(Q̂(s,a)/α), as weighted draws of the prior."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.protocols import Distribution, Lam, Posterior
from estep.distributions.boltzmann import Particles


class Boltzmann(Posterior):
    """n particles and their weights: λ = (a_1 .. a_n, log w_1 .. log w_n), the weights up to a factor."""

    action: int = eqx.field(static=True)
    samples: int = eqx.field(static=True)

    @property
    def parts(self) -> tuple[int, ...]:
        return self.samples * self.action, self.samples

    @property
    def scales(self) -> int:
        return 0

    def start(self, prior: Distribution) -> Lam:
        """Every particle at the prior's mode."""
        return jnp.concatenate([jnp.tile(prior.mode(), self.samples), jnp.zeros(self.samples)])

    def bound(self, lam: Lam, low: Float[Array, " k"], high: Float[Array, " k"]) -> Lam:
        return lam

    def __call__(self, lam: Lam) -> Distribution:
        action, log_weight = jnp.split(lam, [self.samples * self.action])
        return Particles(action.reshape(self.samples, self.action), jax.nn.log_softmax(log_weight))
