"""Which estimate of Q̂ inference maximises: the fast or the slow critic, how pessimistic, and about what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from jaxtyping import Array, Float

from estep.core.agent import CRITICS
from estep.core.learned import Learned
from estep.core.slots import Bootstrap, Likelihood, Problem
from estep.core.types import Action, Info, Key, Obs, Scalar, Transition
from estep.likelihoods.q_function import MeanMinusStd, Pessimism, QFunction


@dataclass(frozen=True)
class Maximised:
    """From a critic and its slow copy to the estimate that inference maximises. The defaults give the critic itself.

    No choice here changes the critic's target: the target evaluates the slow critic as it is.

    Example:
        >>> from estep import SAC, Spec, make_key
        >>> from estep.likelihoods.maximised import Maximised
        >>> critic = SAC(hidden_sizes=(8,)).init(Spec(obs_dim=3, action_dim=2), make_key(0)).likelihood
        >>> Maximised()(critic) is critic.model, Maximised("slow")(critic) is critic.slow
        (True, True)
        >>> Maximised(beta=0.5)(critic).pessimism
        MeanMinusStd(beta=0.5)
    """

    infer_on: str = "fast"
    """The setting of this name: fast or slow."""
    pessimism: str = "value"
    """The setting of this name: about the value, or about the difference to where inference starts."""
    beta: float | None = None
    """Pessimism β; None for the critic's own."""

    def __call__(self, critic: Learned[Likelihood]) -> Likelihood:
        estimate: Any = CRITICS[self.infer_on](critic)
        if self.beta is not None:
            estimate = replace(estimate, pessimism=MeanMinusStd(self.beta))
        return RelativeQ(estimate) if self.pessimism == "difference" else estimate


class RelativeQ(Likelihood):
    """Q̂(s, a) = mean_j Q_j(s, a), less pessimism about the gains Q_j(s, a) - Q_j(s, a_0) over the start of inference.

    Members that disagree about the value of the state, but agree on what an action adds, cost nothing. At a = a_0 the
    pessimism and its gradient are 0. a_0 itself has no gradient.

    Until `relative_to` gives an a_0, it is the critic itself.
    """

    critic: QFunction
    start: Action | None = None
    """a_0; None before inference has a start."""
    at_start: Float[Array, " k"] | None = None
    """Q_j(s, a_0) of every member."""

    def relative_to(self, obs: Obs, start: Callable[[], Action]) -> RelativeQ:
        action = start()
        return RelativeQ(self.critic, action, sg(self.critic.values(obs, action)))

    def __call__(self, problem: Problem, action: Action, key: Key) -> Scalar:
        if self.start is None or self.at_start is None:
            return self.critic(problem, action, key)
        values = self.critic.values(problem.obs, action)
        cost = cost_of_gain(self.critic.pessimism, values - self.at_start)
        # of two members the cost has a kink at a_0, where a rounding error would choose the side
        return values.mean() - jnp.where((action == self.start).all(), 0.0, cost)

    def loss(self, batch: Transition, bootstrap: Bootstrap, key: Key) -> tuple[Scalar, Info]:
        return self.critic.loss(batch, bootstrap, key)


def cost_of_gain(rule: Pessimism, gain: Float[Array, " k"]) -> Scalar:
    """How far pessimism lowers the mean gain: β times the spread of the gains, and 0 where there is no gain.

    Args:
        rule: how the values of the members become one.
        gain: Q_j(s, a) - Q_j(s, a_0) of every member.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.likelihoods.maximised import cost_of_gain
        >>> from estep.likelihoods.q_function import MeanMinusStd
        >>> gain = jnp.asarray([3.0, 1.0])
        >>> float(gain.mean() - cost_of_gain(MeanMinusStd(1.0), gain))  # β = 1 is the smaller of two gains
        1.0
    """
    return gain.mean() - rule(gain) + rule(jnp.zeros_like(gain))
