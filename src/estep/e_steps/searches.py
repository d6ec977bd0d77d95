"""E-steps that learn from searches: those by which steps were taken, as replay stored them, or new ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.batch import first_rows, flatten, memo_of
from estep.core.bootstrap import log_mean_exp_value
from estep.core.slots import Bootstrap, Distribution, Draws
from estep.core.types import Action, Info, Key, Memo, Obs, Scalar, Transition
from estep.e_steps.climb import EStep
from estep.e_steps.plans import PLAN, Plan, Report, mean_over, of_plans, report
from estep.families.particles import ess, exponential, kl_to_equal, log_mean

ROOTS, WEIGHT, ADVANTAGE, GAIN = "roots", "weight", "advantage", "gain"
"""Names in the memo: the roots of the search [n · a], their weights [n], and their advantages [n]; and within an
update, what the search in the next state found above its value [1]."""


@dataclass(frozen=True)
class StoreSearch:
    """What replay stores of a plan that is learned from: its report, its roots, and their weights and advantages."""

    particles: int

    def __call__(self, agent: Agent, q: Distribution, action: Action) -> Memo:
        n, memo = self.particles, report(agent, q, action)
        if not isinstance(q, Plan):
            return memo | {ROOTS: jnp.zeros(n * action.size), WEIGHT: jnp.zeros(n), ADVANTAGE: jnp.zeros(n)}
        found = q.search
        search = {ROOTS: found.action.ravel(), WEIGHT: jnp.exp(found.log_weight), ADVANTAGE: found.advantage}
        return memo | {name: jnp.where(q.sound, numbers, 0.0) for name, numbers in search.items()}


def stored_search(agent: Agent, batch: Transition, key: Key) -> EStep:
    """An E-step: the roots and weights of the search with which each step was taken.

    A step without a search has no weight, and the others are scaled so that the mean weight of a step is 1. Its samples
    are new ones of the slow prior, for the second objective of a trust region. Log-ratios are those of the weights that
    the advantages of the roots give with today's η, so the temperature learns its KL bound.

    Args:
        agent: an agent that plans from its slow prior.
        batch: steps [B, T] with what `StoreSearch` stores.
        key: a random key.
    """
    rows = flatten(batch)
    reports = Report(*memo_of(rows, PLAN).T)
    weight, advantage = memo_of(rows, WEIGHT), memo_of(rows, ADVANTAGE)
    roots = memo_of(rows, ROOTS).reshape(*weight.shape, -1)
    found = Searched(roots, weight, advantage, reports.planned - reports.failed)
    info = of_searches(found, agent.likelihood.count.astype(float) - reports.updates) | of_plans(reports)
    return agent, draws_of(found, agent, rows.obs, key), with_gain(agent, batch), info


class Searched(NamedTuple):
    """Searches in the states of some rows."""

    action: Float[Array, "b n a"]
    """The roots."""
    weight: Float[Array, "b n"]
    advantage: Float[Array, "b n"]
    searched: Float[Array, " b"]
    """1 for each row with a search, else 0."""


def with_gain(agent: Agent, batch: Transition) -> Memo:
    """The memo of a batch [B, T], with what the stored search in each next state found above its value."""
    rows = flatten(batch)
    reports = Report(*memo_of(rows, PLAN).T)
    alpha = jax.vmap(agent.temperature.model)(rows.obs)
    found = gains(memo_of(rows, ADVANTAGE), alpha)
    gain = jnp.where(reports.planned > reports.failed, found, 0.0).reshape(batch.reward.shape)
    memo: Memo = batch.memo | {GAIN: of_next(gain, batch.last)[..., None]}
    return memo


@dataclass(frozen=True)
class SearchFraction:
    """An E-step: search in the states of the first rows of the batch, with the policy, critic and model of now.

    Searches that replay keeps are as old as the steps. Where replay is long, a policy that is fitted to them follows
    the policies and the critics of long ago.
    """

    part: float
    """The fraction of the rows."""

    def __call__(self, agent: Agent, batch: Transition, key: Key) -> EStep:
        k_search, k_others = jax.random.split(key)
        rows = flatten(batch)
        obs = first_rows(rows, self.part).obs
        plans: Any = jax.vmap(agent.behave, (None, 0, 0))(agent, obs, jax.random.split(k_search, len(obs)))
        search, sound = plans.search, jax.vmap(lambda plan: plan.sound)(plans)
        weight, advantage = (
            jnp.where(sound[:, None], numbers, 0.0) for numbers in (jnp.exp(search.log_weight), search.advantage)
        )
        found = sg(Searched(search.action, weight, advantage, sound.astype(float)))
        memo = with_gain(agent, batch) if ADVANTAGE in batch.memo else batch.memo
        info = of_searches(found, jnp.zeros(len(obs))) | of_plans(Report(*memo_of(rows, PLAN).T))
        return agent, draws_of(found, agent, obs, k_others), memo, info


def draws_of(found: Searched, agent: Agent, obs: Float[Array, "b o"], key: Key) -> Draws:
    """Searches as samples of the posterior, those of a row without a search with no weight.

    Args:
        found: the searches.
        agent: gives the slow prior and η.
        obs: the states of the rows.
        key: a random key, for the samples where there is no search.
    """
    count, n = found.weight.shape

    def fresh(obs: Obs, key: Key) -> Array:
        return jax.vmap(agent.prior.slow(obs).sample)(jax.random.split(key, n))

    others = sg(jax.vmap(fresh)(obs, jax.random.split(key, count)))
    action = jnp.where(found.searched[:, None, None] > 0, found.action, others)
    share = found.searched / jnp.maximum(found.searched.mean(), 1.0 / count)
    alpha = jax.vmap(agent.temperature.model)(obs)
    kl = jax.vmap(lambda values, alpha: kl_to_equal(exponential(values, alpha)))(found.advantage, alpha)
    return Draws(action, share[:, None] * found.weight, jnp.broadcast_to(kl[:, None], found.weight.shape))


def of_searches(found: Searched, age: Float[Array, " b"]) -> Info:
    """What is logged of the searches that are learned from.

    Args:
        found: the searches.
        age: updates since each of them.
    """
    mean = mean_over(found.searched)
    return {"e/ess": mean(jax.vmap(ess)(jnp.log(found.weight))), "plan/age": mean(age)}


def gains(advantage: Float[Array, "b n"], alpha: Float[Array, " b"]) -> Float[Array, " b"]:
    """α log mean_i exp(Â_i/α): by how much the value of each state is above V, as its search found it.

    Args:
        advantage: of the roots.
        alpha: α in each state.
    """
    return alpha * jax.vmap(log_mean)(advantage / alpha[:, None])


def of_next(values: Float[Array, "b t"], last: Float[Array, "b t"]) -> Float[Array, "b t"]:
    """The number of the next step of each sequence; 0 at its end, and at the end of an episode.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.e_steps.searches import of_next
        >>> print(of_next(jnp.asarray([[1.0, 2.0, 3.0]]), last=jnp.asarray([[1.0, 0.0, 0.0]])))
        [[0. 3. 0.]]
    """
    return jnp.concatenate([values[:, 1:], jnp.zeros_like(values[:, :1])], axis=1) * (1.0 - last)


def searched_value(agent: Agent) -> Bootstrap:
    """V̄(s') = α log E_p̄ exp(Q̄(s',a)/α) + α log mean_i exp(Â_i/α), the soft value as the search in s' found it.

    The second part is that of the stored search, and 0 where there is none. It is 0 on average at the optimal value. As
    a target an error that all states share is multiplied by 1 - h(1 - γ) a time, so it needs h(1 - γ) ≤ 1.
    """
    before = log_mean_exp_value(agent)

    def value(step: Transition, key: Key) -> Scalar:
        found: Scalar = step.memo[GAIN][0]
        return before.value(step, key) + found

    return before._replace(value=value)
