"""Optimisers, as optax transformations. Each maker is cached: equal arguments give the same object, so that equal
agents have equal tree structures and share one compiled program."""

from __future__ import annotations

import functools as ft
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from estep.core.types import Scalar

ZERO = optax.set_to_zero()
"""Never moves. (Not `optax.identity`: that would add the raw gradient to a frozen module that holds arrays.)"""


class AdamState(NamedTuple):
    """Steps taken, and the running means of the gradient and of its square."""

    steps: Int[Array, ""]
    mu: Any
    nu: Any


@ft.cache
def adam(learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015). Ours because optax's mixes dtypes, which strict promotion refuses."""

    def init(params: Any) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.zeros_like, params))

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        count = state.steps + 1
        steps = count.astype(jnp.float32)
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(g), state.nu, grads)
        rate = learning_rate / (1 - b1**steps)
        root = jax.lax.rsqrt(1 - b2**steps)
        updates = jax.tree.map(
            lambda m, v: -rate.astype(m.dtype) * m / (jnp.sqrt(v) * root.astype(v.dtype) + eps), mu, nu
        )
        return updates, AdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


@ft.cache
def bounded_adam(learning_rate: float, low: float, high: float) -> optax.GradientTransformation:
    """Adam whose parameters are projected to [low, high] after each step."""
    return optax.chain(adam(learning_rate), keep_between(low, high))


def keep_between(low: float, high: float) -> optax.GradientTransformation:
    """Shorten updates so that the updated parameters stay within [low, high]."""

    def update(updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
        return jax.tree.map(lambda u, p: jnp.clip(p + u, low, high) - p, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def global_norm(tree: Any) -> Scalar:
    """The Euclidean norm of all leaves together, finite whenever it is representable: the sum of squares of the
    leaves alone overflows above 1.8e19. Not finite if any element is not."""
    leaves = [leaf.reshape(-1) for leaf in jax.tree.leaves(tree) if leaf.size]
    if not leaves:
        return jnp.zeros(())
    flat = jnp.concatenate(leaves)  # one vector, so that a handful of kernels do, not three a leaf
    largest = jnp.abs(flat).max()
    unit = jnp.where(largest > 0, largest, 1.0)
    return unit * jnp.sqrt(jnp.square(flat / unit).sum())


def scale_to(tree: Any, norm: Scalar, limit: float) -> Any:
    """Leaves scaled so that their norm, given, is at most `limit`."""
    shrink = limit / jnp.maximum(norm, limit)
    return jax.tree.map(lambda leaf: leaf * shrink.astype(leaf.dtype), tree)
