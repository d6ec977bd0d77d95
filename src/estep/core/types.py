"""Arrays and their shapes: what one step is, and what an environment tells about itself."""

from __future__ import annotations

import abc
import math
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

Key: TypeAlias = PRNGKeyArray
Obs: TypeAlias = Float[Array, " o"]
Action: TypeAlias = Float[Array, " a"]
"""The point u that densities speak of; the environment and the critic see squash(u). One of n choices is a one-hot
vector of n numbers."""
Scalar: TypeAlias = Float[Array, ""]
Info: TypeAlias = dict[str, Array]
"""Scalars to look at. Nothing reads them to decide anything."""
Memo: TypeAlias = dict[str, Array]
"""What is kept with a step besides the step itself, as vectors by name."""


class Transition(NamedTuple):
    """One step. A batch is the same record with leading axes."""

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
    """What acting and inference remember of the step, a `Memo` (an empty tuple where nothing is)."""


class Squash(eqx.Module):
    """The map from the point u to the action the environment and the critic see, and its volume change."""

    @abc.abstractmethod
    def __call__(self, u: Action) -> Action:
        """The action, in [-1, 1] per dimension where the action space is bounded."""

    @abc.abstractmethod
    def log_det(self, u: Action) -> Scalar:
        """Σ_i log |da_i/du_i|."""


class Tanh(Squash):
    """a = tanh u: a bounded action space."""

    def __call__(self, u: Action) -> Action:
        return jnp.tanh(u)

    def log_det(self, u: Action) -> Scalar:
        return log_one_minus_tanh_squared(u).sum()

    def inverse(self, action: Action) -> tuple[Action, Bool[Array, " a"]]:
        """The point u of a foreign action, and where it had to be moved inside the box first, so that u and its
        derivative are finite. Own actions need no inverse: their u is stored."""
        limit = 1.0 - 1e-6
        return jnp.arctanh(jnp.clip(action, -limit, limit)), jnp.abs(action) > limit


class Identity(Squash):
    """a = u: an unbounded action, or one that the environment clips."""

    def __call__(self, u: Action) -> Action:
        return u

    def log_det(self, u: Action) -> Scalar:
        return jnp.zeros(())


class Clip(Squash):
    """a = clip(u, -1, 1): a bounded action space under a density over the action itself, which may leave the box."""

    def __call__(self, u: Action) -> Action:
        return jnp.clip(u, -1.0, 1.0)

    def log_det(self, u: Action) -> Scalar:
        """Inside the box."""
        return jnp.zeros(())


class OneHot(Squash):
    """One of n choices, as a one-hot vector: there is nothing to squash, and densities are probabilities."""

    def __call__(self, u: Action) -> Action:
        return u

    def log_det(self, u: Action) -> Scalar:
        return jnp.zeros(())


def log_one_minus_tanh_squared(u: Array) -> Array:
    """log(1 - tanh² u) element by element, to a few ulp for every float32 u; its derivative is -2 tanh u.

    2(log 2 - |u| - log1p(exp(-2|u|))) loses its digits near 0, where it is a difference of nearly equal numbers;
    there -2 log cosh u = -log1p(sinh² u) keeps them, with sinh by its series: XLA's own is off by 4e-7. Each branch
    sees an argument that is safe for it, so that the gradient of the branch not taken stays finite.
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
    """What an algorithm must know of an environment."""

    obs_dim: int
    """Size o of the (flat) observation."""
    action_dim: int
    """Size a of the action: how many numbers, or how many choices."""
    squash: Squash = Tanh()

    @property
    def discrete(self) -> bool:
        """Whether an action is one of `action_dim` choices."""
        return isinstance(self.squash, OneHot)


def unsquashed(spec: Spec) -> Spec:
    """The same environment for densities over the action itself: a bounded action is clipped, not squashed."""
    return spec._replace(squash=Clip()) if isinstance(spec.squash, Tanh) else spec
