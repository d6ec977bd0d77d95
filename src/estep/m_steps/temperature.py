"""α: the temperature of SAC and the dual variable of MPO are the same multiplier."""

from __future__ import annotations

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.slots import Temperature
from estep.core.types import Info, Scalar, Spec

LOG_ALPHA_BOUNDS = (-15.0, 10.0)
"""Limits of log α, to which it is projected after each step."""


class KLConstraint(Temperature):
    """The multiplier α = e^ℓ of KL(q‖p) ≤ ε, on average over states. The loss is α (ε - KL).

    Its gradient with respect to ℓ is α (ε - KL): descent raises α while the KL is too large. With the flat prior
    KL(q‖p) = -H(q), so the constraint H(q) ≥ -d of SAC is ε = d; with the uniform prior it is ε = d(1 + log 2).

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.m_steps.temperature import KLConstraint
        >>> alpha = KLConstraint(jnp.zeros(()), epsilon=1.0)
        >>> float(alpha()), float(alpha.loss(jnp.asarray([2.0, 4.0]))[0])
        (1.0, -2.0)

    Source:
        Haarnoja et al. 2018, arXiv:1812.05905, eq. 18.
    """

    log_alpha: Scalar
    epsilon: float = eqx.field(static=True)

    def __call__(self) -> Scalar:
        return jnp.exp(self.log_alpha)

    def loss(self, kl: Float[Array, " b"]) -> tuple[Scalar, Info]:
        info = {"m/alpha": self(), "m/kl": kl.mean(), "m/kl_bound": jnp.asarray(self.epsilon, kl.dtype)}
        return (self() * (self.epsilon - kl)).mean(), info


def least_entropy(spec: Spec, per_dimension: float, fraction: float) -> KLConstraint:
    """The constraint H(q) ≥ H̄ under the flat prior, with α = 1 at first.

    Args:
        spec: the environment.
        per_dimension: H̄ in nats for each dimension of a continuous action.
        fraction: H̄ of a discrete action, as a fraction of the greatest entropy, log n of all combinations.

    Example:
        >>> from estep import Spec
        >>> from estep.m_steps.temperature import least_entropy
        >>> least_entropy(Spec(obs_dim=3, action_dim=2), per_dimension=-1.0, fraction=0.3).epsilon
        2.0

    Source:
        For discrete actions Christodoulou 2019, arXiv:1910.07207.
    """
    entropy = fraction * math.log(math.prod(spec.factors)) if spec.factors else per_dimension * spec.action_dim
    return KLConstraint(jnp.zeros(()), epsilon=-entropy)


class Constant(Temperature):
    """A fixed α."""

    alpha: Scalar

    def __call__(self) -> Scalar:
        return self.alpha

    def loss(self, kl: Float[Array, " b"]) -> tuple[Scalar, Info]:
        return jnp.zeros(()), {"m/alpha": self.alpha, "m/kl": kl.mean()}
