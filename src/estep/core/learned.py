"""A component that learns: a module, its optimiser, its slow copy, and whether its last step was sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Int

from estep.core.optim import ZERO, global_norm, scale_to
from estep.core.types import Scalar

M = TypeVar("M", bound=eqx.Module)
T = TypeVar("T")


class Learned(eqx.Module, Generic[M]):
    """A module with its optimiser, and its slow copy where one is used."""

    model: M
    target: M | None
    opt_state: Any
    count: Int[Array, ""]
    sound: Bool[Array, ""]
    """Whether the loss and the gradient of the last `descend` were finite."""
    tx: optax.GradientTransformation = eqx.field(static=True)
    tau: float = eqx.field(static=True)
    every: int = eqx.field(static=True)

    @property
    def slow(self) -> M:
        """The slow copy, or the module itself where none is kept."""
        return self.model if self.target is None else self.target

    def assign(self, model: M) -> Learned[M]:
        """Put another module in place and move the slow copy towards it when its turn has come."""
        count = self.count + 1
        target = self.target
        if target is not None:
            step = jnp.where(count % self.every == 0, self.tau, 0.0)
            target = jax.tree.map(lambda new, old: old + step * (new - old), model, target)
        return replace(self, model=model, target=target, count=count)

    def descend(self, loss: Callable[[M], tuple[Scalar, T]]) -> tuple[Learned[M], T]:
        """One optimiser step on a loss of this module alone, and what else the loss returns; whatever it closes over
        stands still."""
        (value, aside), grads = jax.value_and_grad(loss, has_aux=True)(self.model)
        # the optimiser sees one vector: a handful of large kernels instead of several for every leaf
        gradient, _ = ravel_pytree(grads)
        parameters, unravel = ravel_pytree(self.model)
        norm = global_norm(gradient)
        clipped = scale_to(gradient, norm, MAX_GRADIENT_NORM)
        updates, opt_state = self.tx.update(clipped, self.opt_state, parameters)
        learned = self.assign(jax.tree.map(jnp.add, self.model, unravel(updates)))
        sound = jnp.isfinite(value) & jnp.isfinite(norm)
        return replace(learned, opt_state=opt_state, sound=sound), aside


MAX_GRADIENT_NORM = 1e6
"""Far above any healthy gradient: it keeps Adam's second moment finite (its square overflows above 1.8e19)."""


def learn(model: M, tx: optax.GradientTransformation, tau: float | None = None, every: int = 1) -> Learned[M]:
    """A module to be trained by `tx`. With `tau` it has a slow copy, moved by that fraction at each `every`-th step
    (τ = 1, every = 100: a hard copy each hundred updates). The copy starts equal, as arrays of its own: donated
    buffers may not alias. Leaves lose their weak types: an update would drop them, and so be compiled twice."""
    model = jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), model)
    target = None if tau is None else jax.tree.map(jnp.copy, model)
    return Learned(
        model,
        target,
        tx.init(ravel_pytree(model)[0]),
        jnp.zeros((), jnp.int32),
        jnp.ones((), bool),
        tx,
        1.0 if tau is None else tau,
        every,
    )


def fixed(model: M) -> Learned[M]:
    """A module that never changes, even if it holds arrays."""
    return learn(model, ZERO)
