"""Targets of Q(s_t, a_t), over a batch of sequences [B, T]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import jax
from jaxtyping import Array, Float

from estep.core.batch import flatten, memo_of
from estep.core.slots import Bootstrap
from estep.core.types import Key, Scalar, Transition
from estep.likelihoods.returns import Segment, n_step, one_step, retrace, trace_coefficient

Target: TypeAlias = Callable[[Transition, Bootstrap, Key, float], Float[Array, "b t"]]
"""A target y of every step.

Args:
    batch: steps [B, T].
    bootstrap: values and log-densities of the agent, for one step.
    key: a random key.
    gamma: discount factor γ per environment step.
"""


def vmap_steps(function: Callable[[Transition, Key], Scalar], batch: Transition, key: Key) -> Float[Array, "b t"]:
    """Evaluate a function of one step at every step of a batch.

    Args:
        function: (step, key) to a number.
        batch: steps [B, T].
        key: a random key, split into one for each step.
    """
    rows = flatten(batch)
    found: Array = jax.vmap(function)(rows, jax.random.split(key, rows.reward.shape[0]))
    return found.reshape(batch.reward.shape)


def segments(batch: Transition) -> Segment:
    """The sequences of a batch, as functions of `returns` take them."""
    return Segment(batch.reward, batch.discount, batch.last)


def td0(batch: Transition, bootstrap: Bootstrap, key: Key, gamma: float) -> Float[Array, "b t"]:
    """A `Target`: y = r + γ (1 - e) V̄(s').

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import Transition, make_key
        >>> from estep.core.slots import Bootstrap
        >>> from estep.likelihoods.targets import td0
        >>> eight = lambda step, key: jnp.asarray(8.0)
        >>> one, s = jnp.ones((1, 2)), jnp.zeros((1, 2, 3))
        >>> batch = Transition(s, s, reward=one, discount=one, next_obs=s, last=0 * one)
        >>> print(td0(batch, Bootstrap(eight, eight, eight, eight), make_key(0), gamma=0.5))
        [[5. 5.]]
    """
    return one_step(segments(batch), vmap_steps(bootstrap.value, batch, key), gamma)


@dataclass(frozen=True)
class NStep:
    """A `Target`: returns of n steps, as they were taken. They are biased where another policy took them."""

    n: int

    def __call__(self, batch: Transition, bootstrap: Bootstrap, key: Key, gamma: float) -> Float[Array, "b t"]:
        k_value, k_penalty = jax.random.split(key)
        value, kappa = vmap_steps(bootstrap.value, batch, k_value), vmap_steps(bootstrap.penalty, batch, k_penalty)
        y: Array = jax.vmap(lambda s, v, k: n_step(s, v, k, gamma, self.n))(segments(batch), value, kappa)
        return y


@dataclass(frozen=True)
class Retrace:
    """A `Target`: returns corrected for the policy that took them, by the log-densities that `log_prob_memo` stored.

    Raises:
        UsageError: the steps have no stored log-density.

    Source:
        Munos et al. 2016, arXiv:1606.02647.
    """

    lam: float

    def __call__(self, batch: Transition, bootstrap: Bootstrap, key: Key, gamma: float) -> Float[Array, "b t"]:
        k_value, k_q, k_ratio = jax.random.split(key, 3)
        value, q = vmap_steps(bootstrap.value, batch, k_value), vmap_steps(bootstrap.q, batch, k_q)
        trace = trace_coefficient(
            vmap_steps(bootstrap.log_prob, batch, k_ratio) - memo_of(batch, "log_prob")[..., 0], self.lam
        )
        y: Array = jax.vmap(lambda s, v, q, c: retrace(s, v, q, c, gamma))(segments(batch), value, q, trace)
        return y


TARGETS: Mapping[str, Callable[[int], Target]] = {
    "retrace": lambda unroll: Retrace(1.0),
    "n-step": NStep,
    "td0": lambda unroll: td0,
}
"""By name, each given T, the number of steps of a sequence."""
