"""What inference misses when its objective is replaced and nothing is trained again (the poster: iterative inference is
fed the gradient of the objective that it has, direct inference remembers the one it was trained on)."""

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
"""Of the bonus at a = 1, in standard deviations of Q̂ over the actions of the family's start."""
DRAWS = 128
"""For that deviation."""
LONGER = 4
"""Iterative inference is also asked to go on to so many times the iterations with which it acts."""


class Transfer(NamedTuple):
    """What is missing to the best λ that many gradient ascents find, in units of reward: the mean over states and a
    95 % interval."""

    objective: str
    """own, or what replaced it."""
    iterations: int
    """Of iterative inference; 0 for one shot."""
    missing: float
    low: float
    high: float


class WithBonus(Likelihood):
    """Q̂(s, a) + c a_1: a reward for the first action (discrete actions: for the first choice) that training never
    saw."""

    likelihood: Likelihood
    size: Scalar
    squash: Squash = eqx.field(static=True)

    def __call__(self, problem: Problem, action: Action, key: Key) -> Scalar:
        return self.likelihood(problem, action, key) + self.size * self.squash(action)[0]

    def loss(self, batch: Transition, bootstrap: Bootstrap, key: Key) -> tuple[Scalar, Info]:
        return self.likelihood.loss(batch, bootstrap, key)


def transfer(
    agent: Agent, obs: Float[Array, "b o"], key: Key, others: Mapping[str, Likelihood] | None = None
) -> list[Transfer]:
    """Infer under the agent's own Q̂, under Q̂ with a bonus, and under other estimates, with networks as they are.

    Args:
        obs: states as the networks see them.
        others: further estimates of Q̂ by name, such as the critics of other checkpoints.

    Raises:
        UsageError: the posterior is particles and has no λ that could be better.
    """
    check_parametric(agent)
    own = agent.likelihood.model
    objectives = {"own": own, "bonus": WithBonus(own, bonus_of(agent, obs, key), agent.spec.squash), **(others or {})}
    rows = []
    for name, likelihood in objectives.items():
        missing = np.asarray(_missing(agent, likelihood, obs, key), np.float64)
        rows += [
            Transfer(name, steps, *interval(each)) for (steps, _), each in zip(_efforts(agent), missing, strict=True)
        ]
    return rows


def _efforts(agent: Agent) -> list[tuple[int, Inference]]:
    """The optimiser as it acts, and further on where it iterates."""
    own = agent.acting(agent.inference.model)
    if not isinstance(own, Iterative):
        return [(0, own)]
    return [(own.steps, own), (LONGER * own.steps, replace(own, steps=LONGER * own.steps))]


@jax.jit
def _missing(agent: Agent, likelihood: Likelihood, obs: Float[Array, "b o"], key: Key) -> Float[Array, "e b"]:
    """V of the best λ less V of what each effort infers, with the same noise."""

    def one(obs: Obs, key: Key) -> Float[Array, " e"]:
        k_infer, k_best, k_value = jax.random.split(key, 3)
        problem = agent.problem(likelihood, obs)
        lams = [inference(problem, agent.posterior, k_infer).lam for _, inference in _efforts(agent)]
        best = reference(agent, problem, lams[-1], k_best)
        value: Callable[[Array], Scalar] = lambda lam: sampled(agent.posterior(lam), problem, k_value)[0]
        return value(best) - jax.vmap(value)(jnp.stack(lams))

    found: Float[Array, "b e"] = jax.vmap(one)(obs, jax.random.split(key, obs.shape[0]))
    return found.T


@jax.jit
def bonus_of(agent: Agent, obs: Float[Array, "b o"], key: Key) -> Scalar:
    """c, as strong as what Q̂ itself prefers among the actions of the family's start."""

    def one(obs: Obs, key: Key) -> Scalar:
        k_draw, k_value = jax.random.split(key)
        problem = agent.problem(agent.likelihood.model, obs)
        prior = problem.prior(obs)
        draws = agent.posterior(agent.posterior.start(prior)).draw(k_draw, DRAWS, prior)
        keys = jax.random.split(k_value, draws.action.shape[0])
        return jax.vmap(lambda action, key: problem.likelihood(problem, action, key))(draws.action, keys).std()

    return STRENGTH * jax.vmap(one)(obs, jax.random.split(key, obs.shape[0])).mean()
