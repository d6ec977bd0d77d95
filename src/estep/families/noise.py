"""Standard normal noise for reparameterised samples. Which noise is an argument of the family."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.types import Key

Noise: TypeAlias = Callable[[Key, int, int], Float[Array, "n a"]]
"""n vectors of noise, each standard normal by itself.

Args:
    key: a random key.
    n: how many vectors.
    a: the size of each.
"""


def normal(key: Key, n: int, a: int) -> Float[Array, "n a"]:
    """A `Noise`: independent standard normal numbers, |ε| < 5.8.

    It is not `jax.random.normal`: XLA would compute the polynomial of its inverse error function, and the random bits
    below it, again in every loop that reads the noise. It does not do so with a square root times a cosine.

    Source:
        Box & Muller 1958.
    """
    pairs = (n * a + 1) // 2
    bits = jax.random.bits(key, (2, pairs), jnp.uint32) >> jnp.uint32(8)
    u, v = (bits.astype(float) + 0.5) * 2.0**-24
    radius, angle = jnp.sqrt(-2.0 * jnp.log(u)), 2 * math.pi * v
    return jnp.concatenate([radius * jnp.cos(angle), radius * jnp.sin(angle)])[: n * a].reshape(n, a)


def independent(key: Key, n: int, a: int) -> Float[Array, "n a"]:
    """A `Noise`: n independent vectors."""
    return normal(key, n, a)


def antithetic(key: Key, n: int, a: int) -> Float[Array, "n a"]:
    """A `Noise`: pairs ε, -ε; the last vector is alone where n is odd.

    Every odd term of an estimate cancels within a pair. So σ ε ∂Q/∂a, the gradient with respect to log σ, has no noise
    from the mean of ∂Q/∂a.

    Example:
        >>> from estep import make_key
        >>> from estep.families.noise import antithetic
        >>> noise = antithetic(make_key(0), 4, 2)
        >>> bool((noise[:2] == -noise[2:]).all())
        True
    """
    half = normal(key, (n + 1) // 2, a)
    return jnp.concatenate([half, -half])[:n]


def log_density(noise: Float[Array, "*n a"], log_sigma: Float[Array, "*n a"]) -> Float[Array, "*n"]:
    """log N(u; μ, diag σ²) of u = μ + σ noise, in nats, summed over the last axis.

    Args:
        noise: (u - μ)/σ.
        log_sigma: log σ, of the same shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.noise import log_density
        >>> round(float(log_density(jnp.zeros(2), jnp.zeros(2))), 3)
        -1.838
    """
    density: Array = (-0.5 * jnp.square(noise) - log_sigma - 0.5 * math.log(2 * math.pi)).sum(-1)
    return density
