"""Multipliers of the constraints of an M-step: e^ℓ, as α is, learned by the gradient with respect to ℓ."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.types import Scalar
from estep.families.particles import exponential, kl_to_equal


class Multiplier(eqx.Module):
    """The multipliers α_k = e^{ℓ_k} of the constraints C_k ≤ ε, on average over states.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from estep.m_steps.multipliers import Multiplier
        >>> gradient = jax.grad(Multiplier.loss)(Multiplier(jnp.zeros(1), epsilon=0.1), jnp.asarray([0.5]))
        >>> print(gradient.log_alpha)  # descent raises α while C > ε
        [-0.4]

    Source:
        Abdolmaleki et al. 2018a, arXiv:1806.06920, appendix.
    """

    log_alpha: Float[Array, " k"]
    epsilon: float = eqx.field(static=True)

    def __call__(self) -> Float[Array, " k"]:
        """α > 0."""
        return jnp.exp(self.log_alpha)

    def loss(self, mean: Float[Array, " k"]) -> Scalar:
        """Σ_k α_k (ε - C_k), given the batch means C_k: its descent raises α_k while C_k > ε."""
        return (self() * (self.epsilon - mean)).sum()


class InsideBox(eqx.Module):
    """A second E-step on the same samples, with the value -‖u - clip(u, -1, 1)‖ and a KL bound of its own.

    The critic gets clipped actions, so its value does not depend on how far the policy is outside the box. This value
    brings the policy back.

    Source:
        Abdolmaleki et al. 2020, arXiv:2005.07513, with the linear cost of Acme.
    """

    temperature: Multiplier

    def __call__(self, action: Float[Array, "n a"]) -> Float[Array, " n"]:
        """Log weights of n samples in one state."""
        outside = jnp.linalg.norm(action - jnp.clip(action, -1.0, 1.0), axis=-1)
        return exponential(-outside, self.temperature()[0])

    def loss(self, log_weight: Float[Array, "b n"]) -> Scalar:
        """The loss of the temperature, given the log weights at the present temperature."""
        return self.temperature.loss(jax.vmap(kl_to_equal)(log_weight).mean(keepdims=True))


def inside_box(epsilon: float, start: float) -> InsideBox:
    """A fresh `InsideBox`.

    Args:
        epsilon: the KL bound, in nats.
        start: the temperature at first.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.m_steps.multipliers import inside_box
        >>> box = inside_box(epsilon=0.001, start=1.0)
        >>> print(jnp.exp(box(jnp.asarray([[0.5], [-0.5]]))).round(2))  # no sample is outside
        [0.5 0.5]
    """
    return InsideBox(Multiplier(jnp.full(1, math.log(start)), epsilon))
