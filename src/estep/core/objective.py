"""The one formula: the E-step maximises it, and the critic bootstraps from it."""

from __future__ import annotations

import functools as ft

import jax
from jaxtyping import Array, Float

from estep.core.slots import Distribution, Draws, Problem
from estep.core.types import Key, Scalar


def soft_value(q: Distribution, problem: Problem, key: Key, n: int = 1) -> tuple[Scalar, Draws]:
    """V(s; q) = E_q[Q̂(s, a)] - α KL(q‖p), the soft value of q in one state, estimated from n samples of q.

    Args:
        q: the approximate posterior.
        problem: the state, p, Q̂ and α.
        key: a random key.
        n: how many samples; a distribution over choices takes all choices instead.

    Returns:
        V in units of the reward, and the samples it was estimated from.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import Spec, make_key
        >>> from estep.core.objective import soft_value
        >>> from estep.core.slots import Problem
        >>> from estep.families.categorical import Categorical
        >>> from estep.priors.flat import Flat
        >>> from estep.core.types import OneHot
        >>> q_hat = lambda problem, action, key: action[0]  # choice 0 is worth 1, choice 1 nothing
        >>> problem = Problem(jnp.zeros(3), Flat(Spec(3, 2, OneHot())), q_hat, jnp.asarray(0.5))
        >>> value, _ = soft_value(Categorical(jnp.asarray([2.0, 0.0])), problem, make_key(0))
        >>> best = 0.5 * jnp.logaddexp(2.0, 0.0)  # α log Σ exp(Q̂/α), reached by logits Q̂/α
        >>> bool(jnp.abs(value - best) < 1e-5)
        True

    Source:
        With the flat prior, the soft value of Haarnoja et al. 2018, arXiv:1812.05905.
    """
    k_draw, k_value = jax.random.split(key)
    draws = q.draw(k_draw, n, problem.prior(problem.obs))
    value = values_of(problem, draws.action, k_value)
    return draws.weight @ (value - problem.alpha * draws.log_ratio), draws


def values_of(problem: Problem, action: Float[Array, "n a"], key: Key) -> Float[Array, " n"]:
    """Q̂ of each of n samples in one state, in units of the reward. Where Q̂ is random each has luck of its own, so that
    their mean has little.

    Args:
        problem: the state and Q̂.
        action: points u.
        key: a random key, split into one for each sample.
    """
    return jax.vmap(ft.partial(problem.likelihood, problem))(action, jax.random.split(key, action.shape[0]))


def comparable_values(problem: Problem, action: Float[Array, "n a"], key: Key) -> Float[Array, " n"]:
    """Q̂ of each of n samples in one state. Where Q̂ is random all have the same luck, so that none is chosen for it.

    Args:
        problem: the state and Q̂.
        action: points u.
        key: a random key, the same for all samples.
    """
    return jax.vmap(lambda u: problem.likelihood(problem, u, key))(action)
