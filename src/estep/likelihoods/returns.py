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
"""One number for each of the T steps of a sequence."""


class Segment(NamedTuple):
    """What the returns of a stored sequence depend on: the fields of `Transition` of the same names."""

    reward: Steps
    discount: Steps
    """0 at a true terminal, 1 everywhere else; γ is not in it."""
    last: Steps
    """1 at the end of an episode, terminal or truncated."""


def one_step(segment: Segment, value_next: Float[Array, "*b t"], gamma: float) -> Float[Array, "*b t"]:
    """y_t = r_t + γ (1 - e_t) V(s'_t). It has no recursion, so a whole batch [B, T] may be given too.

    Args:
        segment: one sequence, or a batch of them.
        value_next: V(s'_t).
        gamma: discount factor γ per environment step.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.likelihoods.returns import Segment, one_step
        >>> segment = Segment(jnp.ones(2), discount=jnp.asarray([1.0, 0.0]), last=jnp.asarray([0.0, 1.0]))
        >>> print(one_step(segment, jnp.full(2, 8.0), gamma=0.5))  # nothing comes after a terminal state
        [5. 1.]

    Source:
        The target of Haarnoja et al. 2018, arXiv:1812.05905, eq. 5, if V is the soft value.
    """
    return segment.reward + gamma * segment.discount * value_next


def n_step(segment: Segment, value_next: Steps, kappa: Steps, gamma: float, n: int) -> Steps:
    """y_t = Σ_{k<m} γ^k (r_{t+k} - κ_{t+k} [k > 0]) + γ^m (1 - e_{t+m-1}) V(s'_{t+m-1}), where m is n, or less where
    the episode or the sequence ends first.

    Args:
        segment: one sequence.
        value_next: V(s'_t).
        kappa: κ_t = α KL(q‖p) at s_t where values are regularised, else zeros.
        gamma: discount factor γ per environment step.
        n: the number of steps, at least 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.likelihoods.returns import Segment, n_step
        >>> segment = Segment(jnp.ones(3), discount=jnp.ones(3), last=jnp.zeros(3))
        >>> print(n_step(segment, jnp.full(3, 8.0), jnp.zeros(3), gamma=0.5, n=2))  # 1 + 1/2 + 8/4; the last has m = 1
        [3.5 3.5 5. ]

    Source:
        With κ, Schulman et al. 2017, arXiv:1704.06440.
    """
    shortest = one_step(segment, value_next, gamma)
    goes_on = shift(jnp.ones_like(segment.last)) * (1.0 - segment.last)

    def longer(_: Array, y: Steps) -> Steps:
        return jnp.where(goes_on > 0, segment.reward + gamma * shift(y - kappa), shortest)

    y: Steps = jax.lax.fori_loop(1, n, longer, shortest)
    return y


def retrace(segment: Segment, value_next: Steps, q: Steps, trace: Steps, gamma: float) -> Steps:
    """y_t = Q_t + δ_t + γ (1 - last_t) c_{t+1} (y_{t+1} - Q_{t+1}), δ_t = r_t + γ (1 - e_t) V(s'_t) - Q_t.

    The action a_t itself needs no correction.

    Args:
        segment: one sequence.
        value_next: V(s'_t) of the policy that is evaluated.
        q: Q(s_t, a_t).
        trace: c_t of `trace_coefficient`.
        gamma: discount factor γ per environment step.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.likelihoods.returns import Segment, retrace
        >>> segment = Segment(jnp.ones(3), discount=jnp.ones(3), last=jnp.zeros(3))
        >>> value, q = jnp.full(3, 8.0), jnp.zeros(3)
        >>> print(retrace(segment, value, q, jnp.zeros(3), gamma=0.5))  # traces of 0 leave the return of one step
        [5. 5. 5.]

    Source:
        Munos et al. 2016, arXiv:1606.02647.
    """
    surprise = one_step(segment, value_next, gamma) - q
    return q + discounted_scan(surprise, gamma * (1.0 - segment.last) * shift(trace))


def trace_coefficient(log_ratio: Steps, lam: float) -> Steps:
    """c_t = λ min(1, π(a_t|s_t)/μ(a_t|s_t)).

    Args:
        log_ratio: log π - log μ of the actions taken, in nats: π is evaluated, μ acted.
        lam: λ in [0, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.likelihoods.returns import trace_coefficient
        >>> print(trace_coefficient(jnp.log(jnp.asarray([0.5, 3.0])), lam=1.0).round(2))
        [0.5 1. ]

    Source:
        Munos et al. 2016, arXiv:1606.02647.
    """
    return lam * jnp.exp(jnp.minimum(log_ratio, 0.0))


def gae(segment: Segment, value: Steps, value_next: Steps, kappa: Steps, gamma: float, lam: float) -> Steps:
    """A_t = δ_t + γ λ (1 - last_t) (A_{t+1} - κ_{t+1}), δ_t = r_t + γ (1 - e_t) V(s'_t) - V(s_t).

    The λ-return is A_t + V(s_t); V is fitted to it less κ_t.

    Args:
        segment: one sequence.
        value: V(s_t).
        value_next: V(s'_t).
        kappa: κ_t = α KL(q‖p) at s_t where values are regularised, else zeros.
        gamma: discount factor γ per environment step.
        lam: λ in [0, 1]; 0 gives δ_t, and 1 the return of the whole sequence.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.likelihoods.returns import Segment, gae
        >>> segment, zero = Segment(jnp.ones(3), jnp.ones(3), jnp.zeros(3)), jnp.zeros(3)
        >>> print(gae(segment, zero, zero, zero, gamma=0.5, lam=1.0))  # 1 + 1/2 + 1/4, 1 + 1/2, 1
        [1.75 1.5  1.  ]

    Source:
        Schulman et al. 2016, arXiv:1506.02438, there without κ.
    """
    surprise = one_step(segment, value_next, gamma) - value
    weight = gamma * lam * (1.0 - segment.last)
    return discounted_scan(surprise - weight * shift(kappa), weight)


def discounted_scan(x: Steps, weight: Steps) -> Steps:
    """y_t = x_t + w_t y_{t+1}, and y_T = x_T at the last step.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.likelihoods.returns import discounted_scan
        >>> print(discounted_scan(jnp.ones(3), jnp.full(3, 0.5)))
        [1.75 1.5  1.  ]
    """

    def step(after: Scalar, now: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        y = now[0] + now[1] * after
        return y, y

    y: Steps = jax.lax.scan(step, jnp.zeros((), x.dtype), (x, weight), reverse=True)[1]
    return y


def shift(x: Steps) -> Steps:
    """x_{t+1}, and 0 after the last step."""
    return jnp.append(x[1:], jnp.zeros((), x.dtype))
