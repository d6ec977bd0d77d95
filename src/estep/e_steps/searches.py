"""An E-step that learns from the searches by which steps were taken, and that replay stored with them."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.batch import flatten, memo_of
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
    searched = reports.planned - reports.failed
    stored = memo_of(rows, ROOTS).reshape(*weight.shape, -1)

    def fresh(obs: Obs, key: Key) -> Array:
        return jax.vmap(agent.prior.slow(obs).sample)(jax.random.split(key, weight.shape[1]))

    others = sg(jax.vmap(fresh)(rows.obs, jax.random.split(key, len(weight))))
    action = jnp.where(searched[:, None, None] > 0, stored, others)
    share = searched / jnp.maximum(searched.mean(), 1.0 / len(weight))
    alpha = jax.vmap(agent.temperature.model)(rows.obs)
    kl = jax.vmap(lambda values, alpha: kl_to_equal(exponential(values, alpha)))(advantage, alpha)
    draws = Draws(action, share[:, None] * weight, jnp.broadcast_to(kl[:, None], weight.shape))
    info = of_searches(searched, weight, agent.likelihood.count.astype(float) - reports.updates)
    gain = jnp.where(searched > 0, gains(advantage, alpha), 0.0).reshape(batch.reward.shape)
    memo = batch.memo | {GAIN: of_next(gain, batch.last)[..., None]}
    return agent, draws, memo, info | of_plans(reports)


def of_searches(searched: Float[Array, " b"], weight: Float[Array, "b n"], age: Float[Array, " b"]) -> Info:
    """What is logged of the searches that are learned from.

    Args:
        searched: 1 for each step with a search, else 0.
        weight: of the roots.
        age: updates since the search.
    """
    mean = mean_over(searched)
    return {"e/ess": mean(jax.vmap(ess)(jnp.log(weight))), "plan/age": mean(age)}


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
