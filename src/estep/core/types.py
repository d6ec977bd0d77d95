"""Arrays and their shapes: what one step is, and what an algorithm must know of an environment."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float, PRNGKeyArray

Key: TypeAlias = PRNGKeyArray
Obs: TypeAlias = Float[Array, " o"]
Action: TypeAlias = Float[Array, " a"]
"""The point u. Densities are over u; the environment and the critic get squash(u). One of n choices is a one-hot
vector of n numbers; several choices are their one-hot vectors side by side."""
Scalar: TypeAlias = Float[Array, ""]
Info: TypeAlias = dict[str, Array]
"""Scalars to log. No code decides anything by them."""
Floats: TypeAlias = npt.NDArray[np.float32]
"""An array of the host, outside compiled programs."""
Memo: TypeAlias = dict[str, Array]
"""What replay stores with a step besides the step itself: vectors by name."""


class Transition(NamedTuple):
    """One step of an environment. A batch is the same record with leading axes, [B, T] for an update.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import Transition
        >>> step = Transition(
        ...     obs=jnp.zeros(3), action=jnp.zeros(2), reward=jnp.asarray(1.0),
        ...     discount=jnp.asarray(1.0), next_obs=jnp.ones(3), last=jnp.asarray(1.0),
        ... )
        >>> bool(step.last), bool(step.discount)  # a time limit: the episode ends, but the state is not terminal
        (True, True)
    """

    obs: Obs
    action: Action
    reward: Scalar
    discount: Scalar
    """0 at a true terminal, 1 everywhere else, time limits included; γ is not in it."""
    next_obs: Obs
    """The true successor, never the observation after a reset."""
    last: Scalar
    """1 at the end of an episode, terminal or truncated: recursions stop here."""
    memo: Any = ()
    """What acting and inference store with the step, a `Memo`; an empty tuple where they store nothing."""


class Squash(eqx.Module):
    """The map from the point u to the action a that the environment and the critic get, and its change of volume.

    A density over u is a density over a times |da/du|: log p(u) = log p(a) + `log_det`(u).
    """

    @abc.abstractmethod
    def __call__(self, u: Action) -> Action:
        """The action, in [-1, 1] in each dimension where the action space is bounded."""

    @abc.abstractmethod
    def log_det(self, u: Action) -> Scalar:
        """Σ_i log |da_i/du_i|, in nats."""


class Tanh(Squash):
    """a = tanh u: a bounded action space.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.core.types import Tanh
        >>> u, moved = Tanh().inverse(jnp.asarray([0.5, 1.0]))
        >>> print(Tanh()(u).round(3), moved)  # the edge of the box has no finite u
        [0.5 1. ] [False  True]
    """

    def __call__(self, u: Action) -> Action:
        return jnp.tanh(u)

    def log_det(self, u: Action) -> Scalar:
        return log_one_minus_tanh_squared(u).sum()

    def inverse(self, action: Action) -> tuple[Action, Bool[Array, " a"]]:
        """The point u of an action that another policy chose. Actions of one's own need no inverse: their u is stored.

        Args:
            action: a in [-1, 1].

        Returns:
            u = artanh a, and for each dimension whether a was first moved to 1 - 1e-6 inside the box, so that u and
            its derivative are finite.
        """
        limit = 1.0 - 1e-6
        return jnp.arctanh(jnp.clip(action, -limit, limit)), jnp.abs(action) > limit


class Identity(Squash):
    """a = u: an unbounded action, or one that the environment clips itself."""

    def __call__(self, u: Action) -> Action:
        return u

    def log_det(self, u: Action) -> Scalar:
        return jnp.zeros(())


class Clip(Squash):
    """a = clip(u, -1, 1): a bounded action space under a density over the action itself, which may leave the box."""

    def __call__(self, u: Action) -> Action:
        return jnp.clip(u, -1.0, 1.0)

    def log_det(self, u: Action) -> Scalar:
        """0, which holds inside the box."""
        return jnp.zeros(())


class OneHot(Squash):
    """a = u, one of n choices as a one-hot vector: nothing is squashed, and densities are probabilities."""

    def __call__(self, u: Action) -> Action:
        return u

    def log_det(self, u: Action) -> Scalar:
        return jnp.zeros(())


class OneHots(Squash):
    """a = u, several choices at once: their one-hot vectors side by side. Densities are probabilities."""

    sizes: tuple[int, ...] = eqx.field(static=True)
    """How many choices each has."""

    def __call__(self, u: Action) -> Action:
        return u

    def log_det(self, u: Action) -> Scalar:
        return jnp.zeros(())


def log_one_minus_tanh_squared(u: Array) -> Array:
    """log(1 - tanh² u) element by element, exact to a few units in the last place for every float32 u.

    Far from 0 it is 2(log 2 - |u| - log1p(exp(-2|u|))). Near 0 that is a difference of nearly equal numbers, so there
    it is -2 log cosh u = -log1p(sinh² u), with sinh by its series, because XLA's own has an error of 4e-7. Each branch
    gets an argument that is safe for it, so that the gradient of the branch not taken is finite.

    Args:
        u: points, of any shape.

    Returns:
        Values ≤ 0 of the same shape. Their derivative is -2 tanh u.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.core.types import log_one_minus_tanh_squared
        >>> print(log_one_minus_tanh_squared(jnp.asarray([1.0, 100.0])).round())
        [  -1. -199.]
    """
    small = jnp.abs(u) < 1.0
    near_u = jnp.where(small, u, 0.0)
    x = jnp.square(near_u)
    sinh = near_u * (1.0 + x * (1 / 6 + x * (1 / 120 + x * (1 / 5040 + x / 362880))))
    near = -jnp.log1p(jnp.square(sinh))
    far_u = jnp.abs(jnp.where(small, 1.0, u))
    far = 2.0 * (math.log(2.0) - far_u - jnp.log1p(jnp.exp(-2.0 * far_u)))
    return jnp.where(small, near, far)


class Spec(NamedTuple):
    """What an algorithm must know of an environment.

    Example:
        >>> from estep import Spec
        >>> from estep.core.types import OneHot
        >>> Spec(obs_dim=3, action_dim=1).discrete, Spec(obs_dim=4, action_dim=2, squash=OneHot()).discrete
        (False, True)
    """

    obs_dim: int
    """Size o of the (flat) observation."""
    action_dim: int
    """Size a of the action: how many numbers, or how many choices of all parts together."""
    squash: Squash = Tanh()
    tasks: int = 0
    """How many tasks there are. Where there are several, the last `tasks` numbers of the observation are a one-hot
    vector of the task; with one environment it is 0, and the observation is the environment's own."""
    names: tuple[tuple[str, int], ...] = ()
    """The names of the parts of an observation that was a dict, in order, and their sizes; else empty."""

    @property
    def discrete(self) -> bool:
        """Whether an action is one of `action_dim` choices."""
        return isinstance(self.squash, OneHot)

    @property
    def factors(self) -> tuple[int, ...]:
        """How many choices each part of a discrete action has; empty where an action is a vector of numbers."""
        if isinstance(self.squash, OneHots):
            return self.squash.sizes
        return (self.action_dim,) if self.discrete else ()


def unsquashed(spec: Spec) -> Spec:
    """The same environment for densities over the action itself: a bounded action is clipped, not squashed.

    Example:
        >>> from estep.core.types import Spec, unsquashed
        >>> unsquashed(Spec(3, 1)).squash
        Clip()
    """
    return spec._replace(squash=Clip()) if isinstance(spec.squash, Tanh) else spec


def to_index(action: Floats, factors: Sequence[int]) -> Floats:
    """The index of each choice [..., k] in one-hot vectors side by side [..., a], as whole float32 numbers.

    Args:
        action: one-hot vectors.
        factors: how many choices each of the k parts has.

    Example:
        >>> import numpy as np
        >>> from estep.core.types import to_index
        >>> print(to_index(np.array([0, 1, 0, 0, 1], np.float32), (2, 3)))
        [1. 2.]
    """
    if len(factors) == 1:
        chosen: Floats = action.argmax(-1)[..., None].astype(np.float32)
        return chosen
    positions = np.concatenate([np.arange(size, dtype=np.float32) for size in factors])
    index: Floats = np.add.reduceat(action * positions, starts_of(factors), axis=-1)
    return index


def to_one_hot(index: Floats, factors: Sequence[int]) -> Floats:
    """One-hot vectors side by side [..., a] of the indices [..., k] that `to_index` gave.

    Example:
        >>> import numpy as np
        >>> from estep.core.types import to_one_hot
        >>> print(to_one_hot(np.array([1, 2], np.float32), (2, 3)))
        [0. 1. 0. 0. 1.]
    """
    total = sum(factors)
    if len(factors) == 1 and total <= FEW:
        compared: Floats = (index == np.arange(total, dtype=np.float32)).astype(np.float32)
        return compared
    places = index.reshape(-1, len(factors)).astype(np.int64) + starts_of(factors)
    action = np.zeros((len(places), total), np.float32)
    action.reshape(-1)[places + total * np.arange(len(places))[:, None]] = 1.0
    return action.reshape(*index.shape[:-1], total)


FEW = 64
"""Up to this many choices a comparison with all of them is faster than writing ones in place."""


def are_indices(index: Floats, factors: Sequence[int]) -> bool:
    """Whether all numbers [..., k] are whole and name a choice of their part."""
    return bool(((index >= 0) & (index < np.array(factors)) & (index == np.floor(index))).all())


def starts_of(factors: Sequence[int]) -> npt.NDArray[np.int64]:
    """[k]: where the one-hot vector of each part begins."""
    return np.cumsum([0, *factors[:-1]])
