"""α: SAC's temperature and MPO's dual are one multiplier."""

from __future__ import annotations

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.slots import Temperature
from estep.core.types import Info, Scalar, Spec

LOG_ALPHA_BOUNDS = (-15.0, 10.0)
"""Where log α is kept after each step."""


class KLConstraint(Temperature):
    """The multiplier α = e^ℓ of KL(q‖p) ≤ ε, on average over states.

    The gradient to ℓ is α(ε - KL): α grows while the KL is too large. With the flat prior KL(q‖p) = -H(q), so
    SAC's H(q) ≥ -d (arXiv:1812.05905, eq. 18) is ε = d; with the uniform prior it is ε = d(1 + log 2).
    """

    log_alpha: Scalar
    epsilon: float = eqx.field(static=True)

    def __call__(self) -> Scalar:
        return jnp.exp(self.log_alpha)

    def loss(self, kl: Float[Array, " b"]) -> tuple[Scalar, Info]:
        info = {"m/alpha": self(), "m/kl": kl.mean(), "m/kl_bound": jnp.asarray(self.epsilon, kl.dtype)}
        return (self() * (self.epsilon - kl)).mean(), info


def least_entropy(spec: Spec, per_dimension: float, fraction: float) -> KLConstraint:
    """H(q) ≥ H̄ under the flat prior, from α = 1: H̄ in nats per dimension of a continuous action, and as a fraction of
    the largest there is, log n, for a discrete one (Christodoulou 2019, arXiv:1910.07207)."""
    entropy = fraction * math.log(spec.action_dim) if spec.discrete else per_dimension * spec.action_dim
    return KLConstraint(jnp.zeros(()), epsilon=-entropy)


class Constant(Temperature):
    """A fixed α."""

    alpha: Scalar

    def __call__(self) -> Scalar:
        return self.alpha

    def loss(self, kl: Float[Array, " b"]) -> tuple[Scalar, Info]:
        return jnp.zeros(()), {"m/alpha": self.alpha, "m/kl": kl.mean()}
