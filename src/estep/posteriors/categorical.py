"""The posterior over discrete actions."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.protocols import Distribution, Lam, Posterior
from estep.distributions.categorical import Categorical


class Softmax(Posterior):
    """q(a; λ) = softmax(λ)_a over n choices. It holds every posterior there is, so inference has no approximation gap:
    V is largest at λ = log p + Q̂/α, where it is α log Σ_a p(a) exp(Q̂(a)/α)."""

    action: int = eqx.field(static=True)
    """n."""

    @property
    def parts(self) -> tuple[int, ...]:
        return (self.action,)

    @property
    def scales(self) -> int:
        return 0

    def start(self, prior: Distribution) -> Lam:
        """The prior's logits, or equal ones where it has none."""
        return prior.logits if isinstance(prior, Categorical) else jnp.zeros(self.action)

    def bound(self, lam: Lam, low: Float[Array, " k"], high: Float[Array, " k"]) -> Lam:
        return lam

    def __call__(self, lam: Lam) -> Distribution:
        return Categorical(lam)

    def fit(self, action: Float[Array, "n a"], weight: Float[Array, " n"]) -> Lam:
        """The λ of greatest likelihood under n draws whose weights sum to one: the log of how often each was drawn."""
        return jnp.log(jnp.maximum(weight @ action, LEAST_PROBABILITY))


LEAST_PROBABILITY = 1e-30
"""Keeps the logarithm finite where a choice has no weight."""
