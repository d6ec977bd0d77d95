"""Optimisers, as optax transformations. Each maker is cached: equal arguments give the same object, so that equal
agents have equal tree structures and share one compiled program."""

from __future__ import annotations

import functools as ft
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int

from estep.core.types import Scalar

Optimiser: TypeAlias = optax.GradientTransformationExtraArgs
"""An optax transformation whose `update` is told whether the update is `sound`: one that is not moves nothing."""
ZERO: Optimiser = optax.with_extra_args_support(optax.set_to_zero())
"""Never moves. (Not `optax.identity`: that would add the raw gradient to a frozen module that holds arrays.)"""


class AdamState(NamedTuple):
    """Steps taken, and the running means of the gradient and of its square."""

    steps: Int[Array, ""]
    mu: Any
    nu: Any


@ft.cache
def adam(learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Optimiser:
    """Adam (Kingma & Ba 2015). Ours because optax's mixes dtypes, which strict promotion refuses."""

    def init(params: Any) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.zeros_like, params))

    def update(grads: Any, state: Any, params: Any = None, *, sound: Bool[Array, ""]) -> tuple[Any, Any]:
        count = state.steps + sound.astype(jnp.int32)
        steps = jnp.maximum(count, 1).astype(jnp.float32)
        mu = jax.tree.map(lambda m, g: jnp.where(sound, b1 * m + (1 - b1) * g, m), state.mu, grads)
        nu = jax.tree.map(lambda v, g: jnp.where(sound, b2 * v + (1 - b2) * jnp.square(g), v), state.nu, grads)
        rate = jnp.where(sound, learning_rate / (1 - b1**steps), 0.0)
        root = jax.lax.rsqrt(1 - b2**steps)
        updates = jax.tree.map(
            lambda m, v: -rate.astype(m.dtype) * m / (jnp.sqrt(v) * root.astype(v.dtype) + eps), mu, nu
        )
        return updates, AdamState(count, mu, nu)

    return optax.GradientTransformationExtraArgs(init, update)


@ft.cache
def bounded_adam(learning_rate: float, low: float, high: float) -> Optimiser:
    """Adam whose parameters are projected to [low, high] after each step."""
    return optax.chain(adam(learning_rate), keep_between(low, high))


def keep_between(low: float, high: float) -> optax.GradientTransformation:
    """Shorten updates so that the updated parameters stay within [low, high]."""

    def update(updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
        return jax.tree.map(lambda u, p: jnp.clip(p + u, low, high) - p, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def global_norm(tree: Any) -> Scalar:
    """The Euclidean norm of all leaves together. It is there to shorten gradients: squares of the 2^-40th part do not
    overflow up to 1e31, and underflow below 1e-7. Not finite if any element is not."""
    unit = 2.0**40
    leaves = jax.tree.leaves(tree)
    return unit * jnp.sqrt(sum((jnp.square(leaf / unit).sum() for leaf in leaves), jnp.zeros(())))


def scale_to(tree: Any, norm: Scalar, limit: float) -> Any:
    """Leaves scaled so that their norm, given, is at most `limit`."""
    shrink = limit / jnp.maximum(norm, limit)
    return jax.tree.map(lambda leaf: leaf * shrink.astype(leaf.dtype), tree)
