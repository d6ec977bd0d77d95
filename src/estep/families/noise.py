"""Standard normal noise for reparameterised draws: a choice that is passed as an argument."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.types import Key

Noise: TypeAlias = Callable[[Key, int, int], Float[Array, "n a"]]


def normal(key: Key, n: int, a: int) -> Float[Array, "n a"]:
    """n·a standard normal numbers (Box & Muller 1958), |ε| < 5.8.

    Not `jax.random.normal`: its inverse error function ends in a polynomial that XLA would rather compute again, with
    the random bits under it, in every loop that reads the noise. A product of a square root and a cosine is kept.
    """
    pairs = (n * a + 1) // 2
    bits = jax.random.bits(key, (2, pairs), jnp.uint32) >> jnp.uint32(8)
    u, v = (bits.astype(float) + 0.5) * 2.0**-24
    radius, angle = jnp.sqrt(-2.0 * jnp.log(u)), 2 * math.pi * v
    return jnp.concatenate([radius * jnp.cos(angle), radius * jnp.sin(angle)])[: n * a].reshape(n, a)


def independent(key: Key, n: int, a: int) -> Float[Array, "n a"]:
    """n independent draws."""
    return normal(key, n, a)


def antithetic(key: Key, n: int, a: int) -> Float[Array, "n a"]:
    """Pairs ε, -ε (the last one alone where n is odd). Every odd term of an estimate cancels within a pair: the
    gradient to log σ, σ ε ∂Q/∂a, loses the noise that the mean gradient puts on it."""
    half = normal(key, (n + 1) // 2, a)
    return jnp.concatenate([half, -half])[:n]
