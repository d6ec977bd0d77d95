"""Standard normal noise for reparameterised draws: a choice that is passed as an argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.types import Key

Noise: TypeAlias = Callable[[Key, int, int], Float[Array, "n a"]]


def independent(key: Key, n: int, a: int) -> Float[Array, "n a"]:
    """n independent draws."""
    return jax.random.normal(key, (n, a))


def antithetic(key: Key, n: int, a: int) -> Float[Array, "n a"]:
    """Pairs ε, -ε (the last one alone where n is odd). Every odd term of an estimate cancels within a pair: the
    gradient to log σ, σ ε ∂Q/∂a, loses the noise that the mean gradient puts on it."""
    half = jax.random.normal(key, ((n + 1) // 2, a))
    return jnp.concatenate([half, -half])[:n]
