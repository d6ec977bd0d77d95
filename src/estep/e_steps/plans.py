"""Acting by plans: a behaviour, and what is logged of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from estep.core.acting import act_from_posterior
from estep.core.agent import Agent
from estep.core.batch import flatten, memo_of
from estep.core.objective import soft_value, values_of
from estep.core.slots import Distribution, Draws, Problem
from estep.core.types import Action, Info, Key, Memo, Obs, Scalar, Transition
from estep.e_steps.climb import EStep
from estep.errors import UsageError
from estep.families.particles import log_mean, log_ratio
from estep.inference.smc import SMC, Search, World

Proposal: TypeAlias = Callable[[Agent, Obs, Key], Distribution]
"""The policy from which a search draws its actions: a behaviour of `core.acting`."""
PLAN = "plan"
"""The name in the memo of the numbers of a `Report`."""


def mean_value(q: Distribution, problem: Problem, key: Key, n: int) -> Scalar:
    """V(s) = E_q[Q̂ - α log q/p].

    Args:
        q: the policy in one state.
        problem: the state, p, Q̂ and α.
        key: a random key.
        n: how many samples of q.
    """
    return soft_value(q, problem, key, n)[0]


def log_mean_exp(q: Distribution, problem: Problem, key: Key, n: int) -> Scalar:
    """V(s) = α log E_p exp(Q̂/α), the value of the best posterior under p.

    Args:
        q: p in this state.
        problem: the state, Q̂ and α.
        key: a random key.
        n: how many samples of p.
    """
    k_draw, k_value = jax.random.split(key)
    action = jax.vmap(q.sample)(jax.random.split(k_draw, n))
    return problem.alpha * log_mean(values_of(problem, action, k_value) / problem.alpha)


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


def proposing(agent: Agent) -> Agent:
    """The agent as it acts without plans: the policy whose values its critic learns."""
    return acting_by("policy", agent) if isinstance(agent.behave, Planner) else agent


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
