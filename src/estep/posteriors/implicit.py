"""The posterior of a sampler: draws without a density."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.protocols import Distribution, Lam, Posterior
from estep.distributions.implicit import Sampled


class Implicit(Posterior):
    """n draws and their values: λ = (u_1 .. u_n, Q̂_1 .. Q̂_n).

    Without a density there is no KL and no V(s; q): pair it with an E-step that needs neither (`stein.e_step`), a
    constant temperature, a prior that does not learn, and `value.log_mean_exp` for the critic.
    """

    action: int = eqx.field(static=True)
    samples: int = eqx.field(static=True)

    @property
    def parts(self) -> tuple[int, ...]:
        return self.samples * self.action, self.samples

    @property
    def scales(self) -> int:
        return 0

    def start(self, prior: Distribution) -> Lam:
        """Every draw at the prior's mode."""
        return jnp.concatenate([jnp.tile(prior.mode(), self.samples), jnp.zeros(self.samples)])

    def bound(self, lam: Lam, low: Float[Array, " k"], high: Float[Array, " k"]) -> Lam:
        return lam

    def __call__(self, lam: Lam) -> Distribution:
        action, value = jnp.split(lam, [self.samples * self.action])
        return Sampled(action.reshape(self.samples, self.action), value)
