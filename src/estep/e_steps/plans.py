"""Acting by plans, and an E-step that learns from the plans that replay stored with the steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from jaxtyping import Array, Bool, Float

from estep.core.acting import act_from_posterior
from estep.core.agent import Agent
from estep.core.batch import flatten, memo_of
from estep.core.bootstrap import log_mean_exp_value
from estep.core.slots import Bootstrap, Distribution, Draws, Problem
from estep.core.types import Action, Info, Key, Memo, Obs, Scalar, Transition
from estep.e_steps.climb import EStep
from estep.errors import UsageError
from estep.families.particles import ess, exponential, kl_to_equal, log_mean, log_ratio
from estep.inference.smc import SMC, Search, World, mean_value

Proposal: TypeAlias = Callable[[Agent, Obs, Key], Distribution]
"""The policy from which a search draws its actions: a behaviour of `core.acting`."""
PLAN, ROOTS, WEIGHT, ADVANTAGE, GAIN = "plan", "roots", "weight", "advantage", "gain"
"""Names in the memo: the numbers of a `Report`; the roots of the search [n · a], their weights [n], and their
advantages [n]; and within an update, what the search in the next state found above its value [1]."""


class Plan(Distribution):
    """The weighted roots of a search, or the policy itself where the search found numbers that are not finite."""

    search: Search
    policy: Distribution
    """The proposal in the same state."""
    eval_with: str = eqx.field(static=True, default="plan")
    """The setting of this name: what the deterministic action is."""

    @property
    def sound(self) -> Bool[Array, ""]:
        """Whether the search is finite. Its evidence is the sum of all weights."""
        return jnp.isfinite(self.search.log_evidence) & jnp.isfinite(self.search.action).all()

    def sample(self, key: Key) -> Action:
        k_root, k_policy = jax.random.split(key)
        root = self.search.action[jax.random.categorical(k_root, self.search.log_weight)]
        return jnp.where(self.sound, root, self.policy.sample(k_policy))

    def log_prob(self, action: Action) -> Scalar:
        raise UsageError("Plans are weighted samples and have no density.", "Give --target td0 or n-step.")

    def mode(self) -> Action:
        """The root of greatest weight, with the weights of equal roots added; or the mode of the policy."""
        if self.eval_with == "policy":
            return self.policy.mode()
        action, weight = self.search.action, jnp.exp(self.search.log_weight)
        equal = (action[:, None] == action[None]).all(-1)
        heaviest = action[jnp.argmax(jnp.where(equal, weight[None], 0.0).sum(1))]
        return jnp.where(self.sound, heaviest, self.policy.mode())

    def draw(self, key: Key, n: int, prior: Distribution) -> Draws:
        """All roots, for any n. The log-ratio is to the proposal that they are samples of, whatever `prior` is."""
        log_weight = self.search.log_weight
        return Draws(self.search.action, jnp.exp(log_weight), log_ratio(log_weight))


@dataclass(frozen=True)
class Planner:
    """A behaviour: act by a search with the agent's own policy as proposal, and its critic's values at the end.

    The agent's critic has a model beside it.
    """

    search: SMC
    proposal: Proposal = act_from_posterior
    value_samples: int = 1
    """Samples of the policy in the value of a state. All particles of a step have the same noise."""
    eval_with: str = "plan"
    """The setting of this name."""
    value: Callable[[Distribution, Problem, Key, int], Scalar] = mean_value
    """V(s) of the policy, or of the best posterior under it."""

    def __call__(self, agent: Agent, obs: Obs, key: Key) -> Plan:
        k_policy, k_search = jax.random.split(key)
        found = self.search(self.world(agent, obs, k_policy), obs, k_search)
        return Plan(found, self.proposal(agent, obs, k_policy), self.eval_with)

    def world(self, agent: Agent, obs: Obs, key: Key) -> World:
        """What the agent plans with in one state.

        Args:
            agent: its critic has a model beside it.
            obs: the state, on which α depends where each task has its own.
            key: a random key of the policy, for inference that is random.
        """
        beside: Any = agent.likelihood.model
        critic = agent.acting_critic(agent.likelihood)

        def propose(obs: Obs) -> Distribution:
            return self.proposal(agent, obs, key)

        def value(obs: Obs, key: Key) -> Scalar:
            return self.value(propose(obs), agent.problem(critic, obs), key, self.value_samples)

        alpha = agent.temperature.model(obs)
        return World(beside.dynamics, propose, agent.prior.slow, value, alpha, agent.spec.squash)


def acting_by(how: str, agent: Agent) -> Agent:
    """The agent as it acts by its plans, or by the policy that proposes them.

    Args:
        how: "plan" or "policy".
        agent: an agent that plans.

    Raises:
        UsageError: the agent does not plan.
    """
    planner = agent.behave
    if not isinstance(planner, Planner):
        raise UsageError("This policy acts without plans.", "Leave out --eval-with.")
    return replace(agent, behave=replace(planner, eval_with="plan") if how == "plan" else planner.proposal)


class Report(NamedTuple):
    """What is logged of a plan, as numbers in the memo."""

    planned: Scalar
    """1 if the step was planned, 0 for a random step of the warm-up."""
    failed: Scalar
    """1 if the plan was not finite, so that the policy acted."""
    ess: Scalar
    """Effective sample size of the particles, mean over the steps of the search."""
    roots: Scalar
    """How many roots have descendants."""
    resampled: Scalar
    """How often the particles were resampled."""
    updates: Scalar
    """How many updates the critic had."""


def report(agent: Agent, q: Distribution, action: Action) -> Memo:
    """What replay stores of a plan: the numbers that are logged.

    Args:
        agent: gives the number of updates.
        q: a `Plan`, or what acted in its place.
        action: not used.
    """
    count = agent.likelihood.count.astype(float)
    if not isinstance(q, Plan):
        return {PLAN: jnp.zeros(len(Report._fields)).at[-1].set(count)}
    found, sound = q.search, q.sound
    roots = (found.log_weight > -jnp.inf).sum().astype(float)
    numbers = [found.ess.mean(), roots, found.resampled.sum().astype(float)]
    numbers = [jnp.where(sound, number, 0.0) for number in numbers]
    return {PLAN: jnp.stack([jnp.ones(()), 1.0 - sound.astype(float), *numbers, count])}


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


@dataclass(frozen=True)
class WithPlans:
    """An E-step that also logs the plans with which the steps of the batch were taken."""

    e_step: Callable[[Agent, Transition, Key], EStep]

    def __call__(self, agent: Agent, batch: Transition, key: Key) -> EStep:
        agent, draws, memo, info = self.e_step(agent, batch, key)
        return agent, draws, memo, info | of_plans(Report(*memo_of(flatten(batch), PLAN).T))


def of_plans(reports: Report) -> Info:
    """The means of the reports of a batch [b] over the steps that were planned, to log."""
    planned, finite = mean_over(reports.planned), mean_over(reports.planned - reports.failed)
    return {
        "plan/ess": finite(reports.ess),
        "plan/roots": finite(reports.roots),
        "plan/resampled": finite(reports.resampled),
        "plan/failed": planned(reports.failed),
    }


def mean_over(chosen: Float[Array, " b"]) -> Callable[[Float[Array, " b"]], Scalar]:
    """The mean over the rows that are chosen by a 1; 0 where none is."""
    return lambda values: jnp.where(chosen > 0, values, 0.0).sum() / jnp.maximum(chosen.sum(), 1.0)


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
        >>> from estep.e_steps.plans import of_next
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
