"""Optimisers, as optax transformations.

The functions that make them are cached: equal arguments give the same object, so that equal agents have equal tree
structures and share one compiled program.
"""

from __future__ import annotations

import functools as ft
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int

from estep.core.types import Scalar

Optimiser: TypeAlias = optax.GradientTransformationExtraArgs
"""An optax transformation whose `update` has one more argument, `sound`: an update that is not sound moves nothing."""
ZERO: Optimiser = optax.with_extra_args_support(optax.set_to_zero())
"""Never moves. (`optax.identity` would add the raw gradient to a fixed module that holds arrays.)"""


class AdamState(NamedTuple):
    """The number of steps, and the running means of the gradient (mu) and of its square (nu)."""

    steps: Int[Array, ""]
    mu: Any
    nu: Any


FAR_TOO_LARGE = 100.0
"""A gradient this many times its usual size is shortened to that, before it enters the means of Adam."""
USUAL_AFTER = 20
"""Steps after which the usual size of a gradient is known."""
LEAST_SHARE = 1e-12
"""The least mean square of an element, as a part of that of all elements, against which its gradient is judged."""


def shortened(
    old: tuple[Array, Array],
    new: tuple[Array, Array],
    gradient: Array,
    decay: tuple[float, float],
    known: tuple[Scalar, Bool[Array, ""]],
) -> tuple[Array, Array]:
    """The means of Adam after a step, as if no element of the gradient were far larger than usual.

    One element is far too large if it is a hundred times both its own usual size and that of all elements. If the whole
    gradient is a hundred times its usual norm, each element is judged by its own usual size alone. Otherwise the mean
    square of an element that a single such gradient hits would stop its steps for tens of thousands of updates. It is
    the means that are mended, and not the gradient, so that an ordinary step is that of plain Adam.

    Args:
        old: mean of the gradient and of its square before the step, of one leaf.
        new: the same after it.
        gradient: that of the step.
        decay: b1 and b2.
        known: the bias of the old mean square, 1 - b2^steps, and whether it says what is usual.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.core.optim import shortened
        >>> old, gradient = (jnp.zeros(2), jnp.ones(2)), jnp.asarray([3.0, 2e5])  # the usual size is 1
        >>> new = 0.1 * gradient, 0.999 + 0.001 * gradient**2
        >>> mu, nu = shortened(old, new, gradient, (0.9, 0.999), (jnp.asarray(1.0), jnp.asarray(True)))
        >>> print((mu / 0.1).round(1))
        [  3. 100.]
    """
    (b1, b2), (bias, ready), (mu, nu) = decay, known, old
    size, mean, limit = jnp.square(gradient), nu.mean(), FAR_TOO_LARGE**2 / bias
    whole = size.mean() > limit * mean
    usual = jnp.maximum(nu, jnp.where(whole, LEAST_SHARE, 1.0).astype(nu.dtype) * mean)
    largest = limit.astype(nu.dtype) * usual
    odd = ready & (mean > 0) & (size > largest)
    step = jnp.sign(gradient) * jnp.sqrt(largest)
    # Without b1 * mu and b2 * nu: a compiler would share those with the step of Adam, and round that step otherwise.
    mended = mu + (1 - b1) * (step - mu), nu + (1 - b2) * (largest - nu)
    return jnp.where(odd, mended[0], new[0]), jnp.where(odd, mended[1], new[1])


@ft.cache
def adam(learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Optimiser:
    """Adam, which shortens a gradient that is far larger than usual.

    It is not optax's, which mixes dtypes, so that strict promotion refuses it.

    Args:
        learning_rate: the size of a step, in units of the parameters.
        b1: decay of the mean of the gradient.
        b2: decay of the mean of its square.
        eps: added to the root of the mean square.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.core.optim import adam
        >>> tx, theta = adam(0.1), jnp.zeros(2)
        >>> step, state = tx.update(jnp.asarray([3.0, -0.02]), tx.init(theta), theta, sound=jnp.asarray(True))
        >>> print(step.round(3))  # the first step has the size of the learning rate
        [-0.1  0.1]

    Source:
        Kingma & Ba 2015.
    """

    def init(params: Any) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.zeros_like, params))

    def update(grads: Any, state: Any, params: Any = None, *, sound: Bool[Array, ""]) -> tuple[Any, Any]:
        count = state.steps + sound.astype(jnp.int32)
        steps = jnp.maximum(count, 1).astype(jnp.float32)
        mu = jax.tree.map(lambda m, g: jnp.where(sound, b1 * m + (1 - b1) * g, m), state.mu, grads)
        nu = jax.tree.map(lambda v, g: jnp.where(sound, b2 * v + (1 - b2) * jnp.square(g), v), state.nu, grads)
        known = 1 - b2 ** jnp.maximum(state.steps, 1).astype(jnp.float32), sound & (state.steps >= USUAL_AFTER)
        mend = lambda g, *means: shortened(means[:2], means[2:], g, (b1, b2), known)
        mended = jax.tree.map(mend, grads, state.mu, state.nu, mu, nu)
        mu, nu = jax.tree.transpose(jax.tree.structure(mu), jax.tree.structure((0, 0)), mended)
        rate = jnp.where(sound, learning_rate / (1 - b1**steps), 0.0)
        root = jax.lax.rsqrt(1 - b2**steps)
        updates = jax.tree.map(
            lambda m, v: -rate.astype(m.dtype) * m / (jnp.sqrt(v) * root.astype(v.dtype) + eps), mu, nu
        )
        return updates, AdamState(count, mu, nu)

    return optax.GradientTransformationExtraArgs(init, update)


@ft.cache
def bounded_adam(learning_rate: float, low: float, high: float) -> Optimiser:
    """Adam whose parameters are projected to [low, high] after each step.

    Args:
        learning_rate: the size of a step, in units of the parameters.
        low: the least value of a parameter.
        high: the greatest value of a parameter.
    """
    return optax.chain(adam(learning_rate), keep_between(low, high))


def keep_between(low: float, high: float) -> optax.GradientTransformation:
    """Shorten updates so that the updated parameters stay within [low, high].

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from estep.core.optim import keep_between
        >>> step, _ = keep_between(-1.0, 1.0).update(jnp.asarray([0.25, 5.0]), optax.EmptyState(), jnp.zeros(2))
        >>> print(step)
        [0.25 1.  ]
    """

    def update(updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
        return jax.tree.map(lambda u, p: jnp.clip(p + u, low, high) - p, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _follow(gradient: Any, state: Any, parameters: Any = None, *, sound: Bool[Array, ""]) -> tuple[Any, Any]:
    return jax.tree.map(lambda g: jnp.where(sound, -g, 0.0), gradient), state


FOLLOW: Optimiser = optax.GradientTransformationExtraArgs(lambda parameters: optax.EmptyState(), _follow)
"""θ - gradient: one step on the distance ½|θ - φ|² takes θ to φ."""


@ft.cache
def pieces(*parts: tuple[int, Optimiser]) -> Optimiser:
    """Contiguous pieces of one vector of parameters, each with an optimiser of its own.

    Args:
        parts: the size of each piece and its optimiser, in order. The sizes add up to the whole vector.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.core.optim import FOLLOW, adam, pieces
        >>> tx, theta = pieces((2, adam(0.1)), (1, FOLLOW)), jnp.zeros(3)
        >>> step, _ = tx.update(jnp.asarray([3.0, -0.02, 5.0]), tx.init(theta), theta, sound=jnp.asarray(True))
        >>> print(step.round(3))
        [-0.1  0.1 -5. ]
    """
    sizes, optimisers = zip(*parts, strict=True)
    ends = [sum(sizes[: k + 1]) for k in range(len(sizes) - 1)]

    def split(vector: Array) -> list[Array]:
        if vector.shape != (sum(sizes),):
            raise ValueError(f"pieces of {sizes} parameters do not make a vector of {vector.shape}")
        return jnp.split(vector, ends)

    def init(params: Array) -> Any:
        return tuple(tx.init(piece) for tx, piece in zip(optimisers, split(params), strict=True))

    def update(grads: Array, state: Any, params: Array, *, sound: Bool[Array, ""]) -> tuple[Array, Any]:
        own = zip(optimisers, split(grads), state, split(params), strict=True)
        updates, states = zip(*(tx.update(g, s, p, sound=sound) for tx, g, s, p in own), strict=True)
        return jnp.concatenate(updates), tuple(states)

    return optax.GradientTransformationExtraArgs(init, update)


def global_norm(tree: Any) -> Scalar:
    """The Euclidean norm of all leaves together; not finite if any element is not.

    Elements are divided by 2^40 before they are squared: so nothing overflows up to 1e31. Below 1e-7 squares underflow,
    which does not matter for the shortening of gradients.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.core.optim import global_norm
        >>> round(float(global_norm({"a": jnp.asarray([3.0]), "b": jnp.asarray([4.0])})), 3)
        5.0
    """
    leaves = jax.tree.leaves(tree)
    if sum(leaf.size for leaf in leaves) == 1:  # of one number some compilers cancel the unit, and overflow at 1e19
        return jnp.abs(sum(leaf.sum() for leaf in leaves))
    unit = 2.0**40
    return unit * jnp.sqrt(sum((jnp.square(leaf / unit).sum() for leaf in leaves), jnp.zeros(())))


def scale_to(tree: Any, norm: Scalar, limit: float) -> Any:
    """The tree scaled so that its norm is at most `limit`.

    Args:
        tree: arrays.
        norm: their norm, of `global_norm`.
        limit: the greatest norm that is left as it is.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.core.optim import scale_to
        >>> print(scale_to(jnp.asarray([3.0, 4.0]), jnp.asarray(5.0), limit=2.5))
        [1.5 2. ]
    """
    shrink = limit / jnp.maximum(norm, limit)
    return jax.tree.map(lambda leaf: leaf * shrink.astype(leaf.dtype), tree)
