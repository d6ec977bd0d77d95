"""Returns of several steps over one stored sequence of T steps: n-step, Retrace, λ-returns.

All recursions run backwards. None crosses the end of an episode, and the term of t + 1 is dropped after the last step
of the sequence. Every bootstrap is from the true successor s'_t, which is s_{t+1} only while the episode goes on.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.types import Scalar

Steps = Float[Array, " t"]
"""One number for each step of the sequence."""


class Segment(NamedTuple):
    """What a stored sequence says of itself: the fields of `Transition` of the same names."""

    reward: Steps
    discount: Steps
    """0 at a true terminal, 1 everywhere else; γ is not in it."""
    last: Steps
    """1 at the end of an episode, terminal or truncated."""


def one_step(segment: Segment, value_next: Steps, gamma: float) -> Steps:
    """r_t + γ (1 - e_t) V(s'_t)."""
    return segment.reward + gamma * segment.discount * value_next


def n_step(segment: Segment, value_next: Steps, kappa: Steps, gamma: float, n: int) -> Steps:
    """y_t = Σ_{k<m} γ^k (r_{t+k} - κ_{t+k} [k > 0]) + γ^m (1 - e_{t+m-1}) V(s'_{t+m-1}), where m is n, or less where
    the episode or the sequence ends first.

    Args:
        value_next: V(s'_t).
        kappa: α KL(q‖p) at s_t where values are regularised, else zeros.
    """
    shortest = one_step(segment, value_next, gamma)
    goes_on = shift(jnp.ones_like(segment.last)) * (1.0 - segment.last)

    def longer(_: Array, y: Steps) -> Steps:
        return jnp.where(goes_on > 0, segment.reward + gamma * shift(y - kappa), shortest)

    y: Steps = jax.lax.fori_loop(1, n, longer, shortest)
    return y


def retrace(segment: Segment, value_next: Steps, q: Steps, trace: Steps, gamma: float) -> Steps:
    """y_t = Q_t + δ_t + γ (1 - last_t) c_{t+1} (y_{t+1} - Q_{t+1}), δ_t = r_t + γ (1 - e_t) V(s'_t) - Q_t
    (Munos et al. 2016, arXiv:1606.02647). The action a_t itself is never corrected for.

    Args:
        value_next: V(s'_t) of the policy that is evaluated.
        q: Q(s_t, a_t).
        trace: c_t, of `cut`.
    """
    surprise = one_step(segment, value_next, gamma) - q
    return q + discounted_scan(surprise, gamma * (1.0 - segment.last) * shift(trace))


def trace_coefficient(log_ratio: Steps, lam: float) -> Steps:
    """c_t = λ min(1, π(a_t|s_t)/μ(a_t|s_t)), given log π - log μ."""
    return lam * jnp.exp(jnp.minimum(log_ratio, 0.0))


def gae(segment: Segment, value: Steps, value_next: Steps, kappa: Steps, gamma: float, lam: float) -> Steps:
    """A_t = δ_t + γ λ (1 - last_t) (A_{t+1} - κ_{t+1}), δ_t = r_t + γ (1 - e_t) V(s'_t) - V(s_t) (Schulman et al. 2016,
    arXiv:1506.02438). The λ-return is A_t + V(s_t); V is regressed on it less κ_t.

    Args:
        value: V(s_t).
        value_next: V(s'_t).
        kappa: α KL(q‖p) at s_t where values are regularised, else zeros.
    """
    surprise = one_step(segment, value_next, gamma) - value
    weight = gamma * lam * (1.0 - segment.last)
    return discounted_scan(surprise - weight * shift(kappa), weight)


def discounted_scan(x: Steps, weight: Steps) -> Steps:
    """y_t = x_t + w_t y_{t+1}, with nothing after the last step."""

    def step(after: Scalar, now: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        y = now[0] + now[1] * after
        return y, y

    y: Steps = jax.lax.scan(step, jnp.zeros((), x.dtype), (x, weight), reverse=True)[1]
    return y


def shift(x: Steps) -> Steps:
    """x_{t+1}, and 0 after the last step."""
    return jnp.append(x[1:], jnp.zeros((), x.dtype))
