"""Multipliers of the constraints of an M-step: e^ℓ, like α, and moved by the gradient to ℓ."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.types import Scalar
from estep.families.particles import exponential, kl_to_equal


class Multiplier(eqx.Module):
    """The multipliers α_k = e^{ℓ_k} of C_k ≤ ε, on average over states (Abdolmaleki et al. 2018a, appendix)."""

    log_alpha: Float[Array, " k"]
    epsilon: float = eqx.field(static=True)

    def __call__(self) -> Float[Array, " k"]:
        """α > 0."""
        return jnp.exp(self.log_alpha)

    def loss(self, mean: Float[Array, " k"]) -> Scalar:
        """Σ_k α_k (ε - C_k), given the batch means C_k: α_k grows while its constraint is violated."""
        return (self() * (self.epsilon - mean)).sum()


class InsideBox(eqx.Module):
    """A second E-step on the same draws, whose value is the distance -‖u - clip(u, -1, 1)‖ to the box, under a KL
    bound of its own (Abdolmaleki et al. 2020, arXiv:2005.07513, with Acme's linear cost): a critic that sees clipped
    actions cannot tell how far outside the box the policy is, and nothing else brings it back."""

    temperature: Multiplier

    def __call__(self, action: Float[Array, "n a"]) -> Float[Array, " n"]:
        """Log weights of n draws."""
        outside = jnp.linalg.norm(action - jnp.clip(action, -1.0, 1.0), axis=-1)
        return exponential(-outside, self.temperature()[0])

    def loss(self, log_weight: Float[Array, "b n"]) -> Scalar:
        """The dual's, given the weights at the present temperature."""
        return self.temperature.loss(jax.vmap(kl_to_equal)(log_weight).mean(keepdims=True))


def inside_box(epsilon: float, start: float) -> InsideBox:
    """Its bound and the temperature it starts at."""
    return InsideBox(Multiplier(jnp.full(1, math.log(start)), epsilon))
