"""Random keys whose bits are JAX's own, computed in one loop.

On a CPU, JAX's Threefry compiles to a loop of small kernels: about 100 µs a call, for few bits too, and an update
makes several calls. Here the twenty rounds are written out, so that XLA fuses them into the loop that uses the bits.
Streams are equal to those of `jax.random.key(seed)`; every function of estep takes keys of any kind.
"""

from __future__ import annotations

import functools as ft
import math

import jax
import jax.numpy as jnp
from jax.extend import random as extend
from jaxtyping import Array

from estep.core.types import Key

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def make_key(seed: int) -> Key:
    """A random key from a seed in [0, 2^32).

    Example:
        >>> import jax
        >>> from estep import make_key
        >>> bool(jax.random.bits(make_key(7)) == jax.random.bits(jax.random.key(7)))
        True
    """
    key: Key = jax.random.key(seed, impl=FUSED)
    return key


def threefry(key: Array, high: Array, low: Array) -> tuple[Array, Array]:
    """Random bits from counters: Threefry-2x32 of twenty rounds.

    Args:
        key: two words [2] of 32 bits.
        high: the high words of the counters, of any shape.
        low: the low words, of the same shape.

    Returns:
        Two random words for each counter.

    Source:
        Salmon et al. 2011.
    """
    words = key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(PARITY)
    x, y = high + jnp.broadcast_to(words[0], high.shape), low + jnp.broadcast_to(words[1], low.shape)
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            x = x + y
            y = x ^ ((y << jnp.uint32(rotation)) | (y >> jnp.uint32(32 - rotation)))
        x = x + jnp.broadcast_to(words[(group + 1) % 3], x.shape)
        y = y + jnp.broadcast_to(words[(group + 2) % 3] + jnp.uint32(group + 1), y.shape)
    return x, y


def _count(shape: tuple[int, ...]) -> tuple[Array, Array]:
    low = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return jnp.zeros_like(low), low


# Compiled, because a call outside of a compiled function would be a hundred small ones, which take 10 ms. Inlined, so
# that compiled programs are the same as without it.
_compiled = ft.partial(jax.jit, inline=True)


@_compiled
def _seed(seed: Array) -> Array:
    word = jnp.asarray(seed).astype(jnp.uint32)
    return jnp.stack([jnp.zeros_like(word), word])


@ft.partial(_compiled, static_argnums=1)
def _split(key: Array, shape: tuple[int, ...]) -> Array:
    return jnp.stack(threefry(key, *_count(shape)), axis=-1)


@ft.partial(_compiled, static_argnums=(1, 2))
def _random_bits(key: Array, bit_width: int, shape: tuple[int, ...]) -> Array:
    x, y = threefry(key, *_count(shape))
    if bit_width == 64:
        wide: Array = (x.astype(jnp.uint64) << jnp.uint64(32)) | y.astype(jnp.uint64)
        return wide
    narrow: Array = (x ^ y).astype({8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32}[bit_width])
    return narrow


@_compiled
def _fold_in(key: Array, data: int) -> Array:
    high, low = _seed(jnp.asarray(data))
    return jnp.stack(threefry(key, high, low))


FUSED = extend.define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="estep_threefry",
    tag="efry",
)
