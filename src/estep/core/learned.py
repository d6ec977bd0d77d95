"""A component that learns: a module, its optimiser, its slow copy, and whether its last step was sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Int

from estep.core.optim import ZERO, Optimiser, global_norm, scale_to
from estep.core.types import Scalar

M = TypeVar("M", bound=eqx.Module)
T = TypeVar("T")


class Descent(NamedTuple):
    """A step that has been decided on and not been taken."""

    gradient: Array
    """Of all parameters, as one vector."""
    sound: Bool[Array, ""]
    """Whether loss and gradient are finite."""


class Learned(eqx.Module, Generic[M]):
    """A module with its optimiser, and its slow copy where one is used."""

    model: M
    target: M | None
    opt_state: Any
    count: Int[Array, ""]
    tx: Optimiser = eqx.field(static=True)
    tau: float = eqx.field(static=True)
    every: int = eqx.field(static=True)
    pending: Descent | None = None
    """Set within an update alone."""

    @property
    def slow(self) -> M:
        """The slow copy, or the module itself where none is kept."""
        return self.model if self.target is None else self.target

    def descend(self, loss: Callable[[M], tuple[Scalar, T]]) -> tuple[Learned[M], T]:
        """Decide on one optimiser step on a loss of this module alone, and return what else the loss returns; whatever
        the loss closes over stands still. `step` takes it."""
        (value, aside), grads = jax.value_and_grad(loss, has_aux=True)(self.model)
        # the optimiser sees one vector: a handful of large kernels instead of several for every leaf
        gradient, _ = ravel_pytree(grads)
        norm = global_norm(gradient)
        pending = Descent(scale_to(gradient, norm, MAX_GRADIENT_NORM), jnp.isfinite(value) & jnp.isfinite(norm))
        return replace(self, pending=pending), aside

    def step(self, sound: Bool[Array, ""]) -> Learned[M]:
        """Take the step that is pending, if any, and move the slow copy when its turn has come; nothing moves where
        the update is not sound.

        Every new array is a function of its old one that nothing else reads, so that XLA writes it in place: a
        choice between old and new at the end would have it copy the parameters and both moments first.
        """
        if self.pending is None:
            return self
        parameters, unravel = ravel_pytree(self.model)
        updates, opt_state = self.tx.update(self.pending.gradient, self.opt_state, parameters, sound=sound)
        model = jax.tree.map(jnp.add, self.model, unravel(updates))
        count = self.count + sound.astype(jnp.int32)
        target = self.target
        if target is not None:
            turn = (count % self.every == 0) & sound
            target = jax.tree.map(lambda new, old: jnp.where(turn, old + self.tau * (new - old), old), model, target)
        return replace(self, model=model, target=target, opt_state=opt_state, count=count, pending=None)


MAX_GRADIENT_NORM = 1e6
"""Far above any healthy gradient: it keeps Adam's second moment finite (its square overflows above 1.8e19)."""


def learn(model: M, tx: Optimiser, tau: float | None = None, every: int = 1) -> Learned[M]:
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
        tx,
        1.0 if tau is None else tau,
        every,
    )


def fixed(model: M) -> Learned[M]:
    """A module that never changes, even if it holds arrays."""
    return learn(model, ZERO)
