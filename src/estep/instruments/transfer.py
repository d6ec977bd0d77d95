"""The gap of inference if its objective is replaced after training and nothing is trained again.

Iterative inference gets the gradient of the new objective. A direct network was trained for the old objective and does
not see the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.slots import Bootstrap, Inference, Likelihood, Problem
from estep.core.types import Action, Info, Key, Obs, Scalar, Squash, Transition
from estep.inference.iterative import Iterative
from estep.instruments.gap import check_parametric, reference, sampled
from estep.instruments.interval import interval

STRENGTH = 2.0
"""Size of the bonus at a = 1, in standard deviations of Q̂ over the actions of the family's start."""
DRAWS = 128
"""Number of samples for this standard deviation."""
LONGER = 4
"""Iterative inference is also measured with this many times the iterations of acting."""


class Transfer(NamedTuple):
    """V of the best λ that many gradient ascents find minus V of the inferred λ, in units of reward: mean over states
    and 95 % interval."""

    objective: str
    """own for the training objective, or the name of the new one."""
    iterations: int
    """Number of iterations; 0 for inference without iterations."""
    missing: float
    low: float
    high: float


class WithBonus(Likelihood):
    """Q̂(s, a) + c a_1: an additional reward for the first action dimension (or the first choice of discrete actions),
    which was not part of training."""

    likelihood: Likelihood
    size: Scalar
    squash: Squash = eqx.field(static=True)

    def relative_to(self, obs: Obs, start: Callable[[], Action]) -> WithBonus:
        return WithBonus(self.likelihood.relative_to(obs, start), self.size, self.squash)

    def __call__(self, problem: Problem, action: Action, key: Key) -> Scalar:
        return self.likelihood(problem, action, key) + self.size * self.squash(action)[0]

    def loss(self, batch: Transition, bootstrap: Bootstrap, key: Key) -> tuple[Scalar, Info]:
        return self.likelihood.loss(batch, bootstrap, key)


def transfer(
    agent: Agent, obs: Float[Array, "b o"], key: Key, others: Mapping[str, Likelihood] | None = None
) -> list[Transfer]:
    """The gap of inference with the agent's Q̂, with a bonus added to Q̂, and with other estimates of Q̂.

    Args:
        agent: the agent; nothing of it is trained.
        obs: states [b, o], as the networks get them.
        key: key of the random numbers.
        others: further estimates of Q̂ by name, such as the critics of other checkpoints.

    Raises:
        UsageError: the posterior has no parameters λ.
    """
    check_parametric(agent)
    own = agent.acting_critic(agent.likelihood)
    objectives = {"own": own, "bonus": WithBonus(own, bonus_of(agent, obs, key), agent.spec.squash), **(others or {})}
    rows = []
    for name, likelihood in objectives.items():
        missing = np.asarray(_missing(agent, likelihood, obs, key), np.float64)
        rows += [
            Transfer(name, steps, *interval(gaps)) for (steps, _), gaps in zip(_efforts(agent), missing, strict=True)
        ]
    return rows


def _efforts(agent: Agent) -> list[tuple[int, Inference]]:
    """The optimiser of acting, and with more iterations if it iterates; each with its number of iterations."""
    own = agent.acting(agent.inference.model)
    if not isinstance(own, Iterative):
        return [(0, own)]
    return [(own.steps, own), (LONGER * own.steps, replace(own, steps=LONGER * own.steps))]


@jax.jit
def _missing(agent: Agent, likelihood: Likelihood, obs: Float[Array, "b o"], key: Key) -> Float[Array, "e b"]:
    """V of the best λ minus V of the inferred λ for each number of iterations, with the same noise."""

    def in_state(obs: Obs, key: Key) -> Float[Array, " e"]:
        k_infer, k_best, k_value = jax.random.split(key, 3)
        problem = agent.problem_from(agent.acting(agent.inference.model), likelihood, obs, k_infer)
        lams = [inference(problem, agent.posterior, k_infer).lam for _, inference in _efforts(agent)]
        best = reference(agent, problem, lams[-1], k_best)
        value: Callable[[Array], Scalar] = lambda lam: sampled(agent.posterior(lam), problem, k_value)[0]
        return value(best) - jax.vmap(value)(jnp.stack(lams))

    missing: Float[Array, "b e"] = jax.vmap(in_state)(obs, jax.random.split(key, obs.shape[0]))
    return missing.T


@jax.jit
def bonus_of(agent: Agent, obs: Float[Array, "b o"], key: Key) -> Scalar:
    """The size c of the bonus: STRENGTH standard deviations of Q̂ over the actions of the family's start.

    Args:
        agent: the agent.
        obs: states [b, o], as the networks get them.
        key: key of the random numbers.
    """

    def in_state(obs: Obs, key: Key) -> Scalar:
        k_draw, k_value = jax.random.split(key)
        problem = agent.acting_problem(obs, k_draw)
        prior = problem.prior(obs)
        draws = agent.posterior(agent.posterior.start(prior)).draw(k_draw, DRAWS, prior)
        keys = jax.random.split(k_value, draws.action.shape[0])
        return jax.vmap(lambda action, key: problem.likelihood(problem, action, key))(draws.action, keys).std()

    return STRENGTH * jax.vmap(in_state)(obs, jax.random.split(key, obs.shape[0])).mean()
