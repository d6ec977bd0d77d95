"""The one formula: the E-step climbs it, the critic bootstraps from it."""

from __future__ import annotations

import functools as ft

import jax
from jaxtyping import Array, Float

from estep.core.slots import Distribution, Draws, Problem
from estep.core.types import Key, Scalar


def soft_value(q: Distribution, problem: Problem, key: Key, n: int = 1) -> tuple[Scalar, Draws]:
    """V(s; q) = E_q[Q̂(s, a)] - α KL(q‖p), estimated from n draws of q (`Draws` of the same call are returned)."""
    k_draw, k_value = jax.random.split(key)
    draws = q.draw(k_draw, n, problem.prior(problem.obs))
    value = values_of(problem, draws.action, k_value)
    return draws.weight @ (value - problem.alpha * draws.log_ratio), draws


def values_of(problem: Problem, action: Float[Array, "n a"], key: Key) -> Float[Array, " n"]:
    """Q̂ of each draw."""
    return jax.vmap(ft.partial(problem.likelihood, problem))(action, jax.random.split(key, action.shape[0]))
