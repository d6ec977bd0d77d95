"""α: SAC's temperature and MPO's dual are one multiplier."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.protocols import Temperature
from estep.core.types import Info, Scalar

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
        return (self() * (self.epsilon - kl)).mean(), {"m/alpha": self(), "m/kl": kl.mean()}


class Constant(Temperature):
    """A fixed α."""

    alpha: Scalar

    def __call__(self) -> Scalar:
        return self.alpha

    def loss(self, kl: Float[Array, " b"]) -> tuple[Scalar, Info]:
        return jnp.zeros(()), {"m/alpha": self.alpha, "m/kl": kl.mean()}
