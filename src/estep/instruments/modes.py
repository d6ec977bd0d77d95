"""How many modes the posterior has: the different distributions that inference reaches from random starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float

from estep.core.agent import Agent
from estep.core.optim import adam
from estep.core.slots import Inference
from estep.core.types import Key, Obs
from estep.inference.gradient import GradientAscent
from estep.inference.iterative import Iterative
from estep.inference.starts import AtPrior, Scattered, distinct_modes
from estep.instruments.gap import check_parametric
from estep.instruments.optimisers import SAMPLES, values_at

RESTARTS = 16
SPREAD = 1.0
"""Standard deviation of the starts, in units of u."""
APART = 2.0
"""Two results are different modes if their actions differ by this many standard deviations of the best result in some
dimension. From this distance on, a mixture of two equal Gaussians has two modes."""
LEAST_STD = 0.02
LEAST_SHARE = 0.01


class Modes(NamedTuple):
    """The results of all restarts in every state."""

    action: npt.NDArray[np.float64]
    """squash(mode of q) [b, n, a]."""
    value: npt.NDArray[np.float64]
    """V(s; q) [b, n], with common random numbers in a state."""
    distinct: npt.NDArray[np.bool_]
    """Whether a result is the best of its neighbourhood [b, n]."""
    share: npt.NDArray[np.float64]
    """The mass of each distinct result, exp(V/α) normalised over the distinct results [b, n]; 0 for the others."""

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Number of distinct results with at least 1 % of the mass, in each state [b]."""
        counts: npt.NDArray[np.int64] = (self.share >= LEAST_SHARE).sum(1)
        return counts


def modes(agent: Agent, obs: Float[Array, "b o"], key: Key, restarts: int = RESTARTS) -> Modes:
    """Infer from many random starts in each state, then continue each result with gradient ascent to an optimum.

    Inference uses the agent's optimiser if it iterates. The gradient ascent makes sure that different results are
    different optima.

    Args:
        agent: the agent.
        obs: states [b, o], as the networks get them.
        key: key of the random numbers.
        restarts: number of random starts in each state.

    Raises:
        UsageError: the posterior has no parameters λ.
    """
    check_parametric(agent)
    return Modes(*(np.asarray(part) for part in _modes(agent, obs, key, restarts)))


def from_random_starts(agent: Agent) -> Inference:
    """Gradient ascent from a random start, or from the result of the agent's iterations from a random start.

    Random starts are around the start of the family. Around the λ of a direct network, all would reach the same mode.
    """
    own: Any = agent.acting(agent.inference.model)
    begin: Inference = Scattered(AtPrior(), SPREAD)
    if isinstance(own, Iterative):
        begin = replace(own, start=begin)
    return GradientAscent(250, 8, adam(3e-2), begin)


def _modes_of(
    agent: Agent, obs: Float[Array, "b o"], key: Key, restarts: int
) -> tuple[Array, Array, Bool[Array, "b n"], Array]:
    inference = from_random_starts(agent)

    def in_state(obs: Obs, key: Key) -> tuple[Array, Array, Bool[Array, " n"], Array]:
        k_run, k_value, k_spread = jax.random.split(key, 3)
        problem = agent.acting_problem(obs, k_run)
        keys = jax.random.split(k_run, restarts)
        lams = jax.vmap(lambda key: inference(problem, agent.posterior, key).lam)(keys)
        value = values_at(agent, obs, lams, k_value, SAMPLES)
        action = jax.vmap(lambda lam: agent.spec.squash(agent.posterior(lam).mode()))(lams)
        best = agent.posterior(lams[jnp.argmax(value)]).draw(k_spread, SAMPLES, problem.prior(obs))
        spread = jnp.maximum(jax.vmap(agent.spec.squash)(best.action).std(0), LEAST_STD)
        distinct = distinct_modes(action / spread[None], value, APART)
        share = jax.nn.softmax(jnp.where(distinct, value / problem.alpha, -jnp.inf))
        return action, value, distinct, share

    parts: tuple[Array, Array, Array, Array] = jax.vmap(in_state)(obs, jax.random.split(key, obs.shape[0]))
    return parts


_modes = jax.jit(_modes_of, static_argnums=3)
