"""Inference that goes on from one update of a stored step to the next.

Replay stores λ(s) and λ(s') with every step, and each update of the step refines them by a few iterations. So the
network is trained, and the critic's target evaluated, where many iterations lead, at the cost of few; and more
iterations than in training are safe, except in rare states, which `keep` guards. Its parts are those of persistent
Markov chains in learning (Tieleman 2008).

Prior art: Cetin & Celiktutan 2022, arXiv:2210.06766, act by the steady state of a chain of reasoning steps, which they
restart from past solutions. Here the steps are amortised, and the chain of s' gives the critic's target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.batch import first_rows, flatten, memo_of
from estep.core.bootstrap import posterior_value
from estep.core.objective import soft_value
from estep.core.slots import Bootstrap, Distribution, Inference, Inferred, Lam, Posterior, Problem
from estep.core.types import Action, Key, Memo, Scalar, Transition
from estep.e_steps.climb import EStep, climb
from estep.inference.starts import start_of, starting

LARGEST = 20.0
"""No posterior needs a larger λ: from |u| = 9 on, tanh u is 1 in float32, and logits so far apart leave no doubt."""
LAM, NEXT_LAM, VALID = "lam", "next_lam", "kept"
"""Names in the memo: λ(s) [l], λ(s') [l], and for each of the two 1 if it was stored, else 0 [2]."""


class Resumed(Inference):
    """Start from a stored λ, or from a given start."""

    lam: Lam
    afresh: Scalar
    """1 to begin at `start`, 0 to begin at the stored λ."""
    start: Inference

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        first = self.start(problem, posterior, key)
        earlier = jnp.where(self.afresh > 0, first.earlier, 0.0)
        return first._replace(lam=jnp.where(self.afresh > 0, first.lam, self.lam), earlier=earlier)

    def start_action(self, problem: Problem, posterior: Posterior, key: Key) -> Action:
        afresh = self.start.start_action(problem, posterior, key)
        return jnp.where(self.afresh > 0, afresh, posterior(self.lam).mode())


@dataclass(frozen=True)
class Chain:
    """An E-step, that of `climb_each_state`, started at the λ(s) and λ(s') that the last update of each step stored.

    Raises:
        UsageError: the optimiser has no start, or the steps have no stored λ.
    """

    restart: float
    """ρ, the probability that a state s begins at the optimiser's own start. A next state never does: its value would
    be that of the policy after few iterations."""
    part: float = 1.0
    """The fraction of the rows whose λ(s) is refined and trained; λ(s') is refined in all rows."""

    def __call__(self, agent: Agent, batch: Transition, key: Key) -> EStep:
        k_climb, k_next, k_restart = jax.random.split(key, 3)
        rows = flatten(batch)
        memo, chosen = {name: memo_of(rows, name) for name in (LAM, NEXT_LAM, VALID)}, first_rows(rows, self.part)
        count = chosen.reward.shape[0]
        afresh = jax.random.bernoulli(k_restart, self.restart, (count,)) | (chosen.memo[VALID][:, 0] == 0)
        chosen = chosen._replace(memo=chosen.memo | {"afresh": afresh.astype(float)})

        def begin(inference: Inference, row: Transition) -> Inference:
            started: Inference = resumed(inference, row.memo[LAM], row.memo["afresh"])
            return started

        def follow(row: Transition, key: Key) -> Lam:
            inference = agent.targeting(agent.inference.model)
            at = resumed(inference, row.memo[NEXT_LAM], 1.0 - row.memo[VALID][1])
            return agent.infer(at, agent.training_critic(agent.likelihood), row.next_obs, key)[2].lam

        agent_climbed, draws, lam, info = climb(agent, chosen, k_climb, begin)
        next_lam = jax.vmap(follow)(rows, jax.random.split(k_next, rows.reward.shape[0]))
        here, kept_here = keep(lam, memo[LAM][:count])
        there, kept_there = keep(next_lam, memo[NEXT_LAM])
        kept = jnp.stack([memo[VALID][:, 0].at[:count].set(kept_here), kept_there], axis=1)
        new = {LAM: memo[LAM].at[:count].set(here), NEXT_LAM: there, VALID: kept}
        new = {name: value.reshape(*batch.reward.shape, -1) for name, value in new.items()}
        return agent_climbed, draws, new, info | {"e/afresh": afresh.mean(), "e/lost": 1.0 - kept_there.mean()}


def resumed(inference: Any, lam: Lam, afresh: Scalar) -> Any:
    """The optimiser with a stored λ as its start, or with its own start.

    Args:
        inference: an optimiser that has a start.
        lam: the stored λ.
        afresh: 1 for its own start, 0 for the stored λ.
    """
    return starting(inference, Resumed(lam, afresh, start_of(inference)))


def keep(lam: Float[Array, "b l"], old: Float[Array, "b l"]) -> tuple[Float[Array, "b l"], Float[Array, " b"]]:
    """What is stored: λ, or the old one where λ is not finite or has run away, and the next update starts afresh.

    The network is trained near the start of inference, and the chain of s' never starts again by chance. Where a state
    is rare, many iterations may lead outside what the network knows, and each then leads further out. A density of such
    a λ is of any size, and so is the target of the critic.

    Args:
        lam: the new λ of each row.
        old: the stored λ of each row.

    Returns:
        The λ to store, and 1 for each row in which it is the new one, else 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.e_steps.chain import keep
        >>> stored, valid = keep(jnp.asarray([[1.0, 2.0], [jnp.nan, 3.0], [1e5, 2.0]]), jnp.ones((3, 2)))
        >>> print(stored[:, 0], valid)
        [1. 1. 1.] [1. 0. 0.]
    """
    sound = (jnp.abs(lam) <= LARGEST).all(-1)  # NaN is not
    return jnp.where(sound[:, None], sg(lam), old), sound.astype(old.dtype)


def empty_memo(agent: Agent, q: Distribution, action: Action) -> Memo:
    """The memo of a new step, whose first update starts afresh.

    Args:
        agent: gives the size of λ.
        q: not used.
        action: not used.
    """
    zeros = jnp.zeros(sum(agent.posterior.block_sizes))
    return {LAM: zeros, NEXT_LAM: zeros, VALID: jnp.zeros(2)}


def stored_bootstrap(agent: Agent) -> Bootstrap:
    """V̄(s') of the posterior that the E-step stored in the memo, evaluated on the slow critic."""

    def value(step: Transition, key: Key) -> Scalar:
        problem = agent.problem(agent.likelihood.slow, step.next_obs)
        return soft_value(agent.posterior(step.memo[NEXT_LAM]), problem, key, agent.target_samples)[0]

    return posterior_value(agent)._replace(value=value)
