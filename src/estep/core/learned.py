"""A component that learns: a module, its optimiser, its slow copy and its pending step."""

from __future__ import annotations

import abc
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
from estep.errors import UsageError

M = TypeVar("M", bound=eqx.Module)
T = TypeVar("T")


class Constrained(eqx.Module):
    """A network, anywhere in a module, whose parameters are moved back into a set after each step of its optimiser."""

    @abc.abstractmethod
    def projected(self) -> Constrained:
        """The network with its parameters in the set."""


def projected(new: M, old: M, moved: Bool[Array, ""]) -> M:
    """A module after a step, with every `Constrained` network in it projected, or as it was where nothing moved.

    Args:
        new: the module after the step.
        old: the module before it.
        moved: whether there was a step. Without one even the rounding of a projection would be a change.
    """

    def settle(new: Any, old: Any) -> Any:
        if not isinstance(new, Constrained):
            return new
        return jax.tree.map(lambda after, before: jnp.where(moved, after, before), new.projected(), old)

    settled: M = jax.tree.map(settle, new, old, is_leaf=lambda part: isinstance(part, Constrained))
    return settled


class Descent(NamedTuple):
    """A gradient step that is computed and not yet applied."""

    gradient: Array
    """Of all parameters, as one vector."""
    sound: Bool[Array, ""]
    """Whether loss and gradient are finite."""


class Learned(eqx.Module, Generic[M]):
    """A module with its optimiser, and its slow copy where one is used. Made by `learn` and `fixed`."""

    model: M
    target: M | None
    opt_state: Any
    count: Int[Array, ""]
    tx: Optimiser = eqx.field(static=True)
    tau: float = eqx.field(static=True)
    every: int = eqx.field(static=True)
    pending: Descent | None = None
    """Set within an update only."""

    @property
    def slow(self) -> M:
        """The slow copy, or the module itself where there is no copy."""
        return self.model if self.target is None else self.target

    def descend(self, loss: Callable[[M], tuple[Scalar, T]]) -> tuple[Learned[M], T]:
        """Compute one gradient step on a loss of this module. `step` applies it.

        Args:
            loss: from this module to (the loss, anything else). What the loss closes over gets no gradient.

        Returns:
            The component with its step pending, and the anything else.

        Example:
            >>> import jax.numpy as jnp
            >>> from estep.core.learned import learn
            >>> from estep.core.optim import adam
            >>> from estep.m_steps.temperature import Constant
            >>> alpha = learn(Constant(jnp.asarray(1.0)), adam(0.1))
            >>> pending, _ = alpha.descend(lambda model: (model.alpha**2, {}))
            >>> after = pending.step(jnp.asarray(True))
            >>> round(float(pending.model.alpha), 3), round(float(after.model.alpha), 3)
            (1.0, 0.9)
        """
        (value, aside), grads = jax.value_and_grad(loss, has_aux=True)(self.model)
        # the optimiser gets one vector: a handful of large kernels instead of several for every leaf
        gradient, _ = ravel_pytree(grads)
        norm = global_norm(gradient)
        pending = Descent(scale_to(gradient, norm, MAX_GRADIENT_NORM), jnp.isfinite(value) & jnp.isfinite(norm))
        return replace(self, pending=pending), aside

    def step(self, sound: Bool[Array, ""]) -> Learned[M]:
        """Apply the pending step, if there is one, and move the slow copy when its turn has come.

        Args:
            sound: whether all losses and gradients of the update are finite; if not, nothing moves.

        Every new array is a function of its old one that nothing else reads, so that XLA writes it in place: a
        choice between old and new at the end would have it copy the parameters and both moments first.
        """
        if self.pending is None:
            return self
        parameters, unravel = ravel_pytree(self.model)
        updates, opt_state = self.tx.update(self.pending.gradient, self.opt_state, parameters, sound=sound)
        model = projected(jax.tree.map(jnp.add, self.model, unravel(updates)), self.model, sound)
        count = self.count + sound.astype(jnp.int32)
        target = self.target
        if target is not None:
            turn = (count % self.every == 0) & sound
            near = jax.tree.map(lambda new, old: jnp.where(turn, old + self.tau * (new - old), old), model, target)
            target = projected(near, target, turn)
        return replace(self, model=model, target=target, opt_state=opt_state, count=count, pending=None)


MAX_GRADIENT_NORM = 1e6
"""Far above any healthy gradient: it keeps Adam's second moment finite (its square overflows above 1.8e19)."""


class Function(eqx.Module):
    """A function in a module, such as the activation of `eqx.nn.MLP`, as a part of the module's structure."""

    function: Callable[..., Any] = eqx.field(static=True)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.function(*arguments, **named)


AS_STATIC = "Declare its field with eqx.field(static=True), or make it an array of floats."


def parameters_of(model: M) -> M:
    """A module whose leaves are its parameters alone.

    Args:
        model: the module. Functions in it become a part of its structure.

    Raises:
        UsageError: another leaf is no array of floats. The message has its path.

    Example:
        >>> import equinox as eqx
        >>> import jax
        >>> from estep.core.learned import parameters_of
        >>> model = parameters_of(eqx.nn.MLP(2, 3, 8, 1, key=jax.random.key(0)))
        >>> print(len(jax.tree.leaves(model)), model(jax.numpy.ones(2)).shape)
        4 (3,)
    """

    def parameter(path: Any, leaf: Any) -> Any:
        dtype = getattr(leaf, "dtype", None)
        if dtype is not None and jnp.issubdtype(dtype, jnp.floating):
            return jax.lax.convert_element_type(leaf, dtype)  # an update would drop weak types: two compilations
        if dtype is None and callable(leaf):
            return Function(leaf)
        kind = type(leaf).__name__ if dtype is None else f"an array of {dtype}"
        what = (
            f"{type(model).__name__}{jax.tree_util.keystr(path)} is {kind}, and a part learns arrays of floats alone."
        )
        raise UsageError(what, AS_STATIC)

    found: M = jax.tree_util.tree_map_with_path(parameter, model)
    return found


def learn(model: M, tx: Optimiser, tau: float | None = None, every: int = 1) -> Learned[M]:
    """A module to be trained, with a slow copy where `tau` is given: copy ← copy + τ (module - copy).

    Args:
        model: the module. Its leaves are arrays of floats, and functions, which stay as they are.
        tx: the optimiser.
        tau: τ in (0, 1]; None for no slow copy.
        every: steps between two moves of the copy. τ = 1 and every = 100 is a hard copy every hundred updates.

    Raises:
        UsageError: another leaf is no array of floats.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.core.learned import learn
        >>> from estep.core.optim import adam
        >>> from estep.m_steps.temperature import Constant
        >>> alpha = learn(Constant(jnp.asarray(1.0)), adam(0.1), tau=0.5)
        >>> after = alpha.descend(lambda model: (model.alpha, {}))[0].step(jnp.asarray(True))
        >>> round(float(after.model.alpha), 3), round(float(after.slow.alpha), 3)
        (0.9, 0.95)
    """
    model = parameters_of(model)
    target = None if tau is None else jax.tree.map(jnp.copy, model)  # its own arrays: donated buffers may not alias
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
    """A module that never changes, even if it holds arrays.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.core.learned import fixed
        >>> from estep.m_steps.temperature import Constant
        >>> alpha = fixed(Constant(jnp.asarray(1.0)))
        >>> float(alpha.descend(lambda model: (model.alpha, {}))[0].step(jnp.asarray(True)).model.alpha)
        1.0
    """
    return learn(model, ZERO)
