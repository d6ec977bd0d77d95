"""The values that the critic bootstraps from, and the policy that they belong to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from estep.core.acting import act_from_prior
from estep.core.agent import Agent
from estep.core.objective import soft_value, values_of
from estep.core.slots import Bootstrap, Distribution
from estep.core.types import Key, Obs, Scalar, Transition

Evaluated: TypeAlias = Callable[[Obs, Key], Distribution]
"""The policy that is evaluated, in one state."""


def posterior_value(agent: Agent) -> Bootstrap:
    """V̄(s') of the posterior: inferred on the critic of the E-step, evaluated on the slow copy.

    It is for the regularised regime: the KL at s' is part of V(s'), and the KL at s is never part of Q(s, a).
    """

    def inferred(obs: Obs, key: Key) -> Distribution:
        inference = agent.targeting(agent.inference.model)
        return agent.infer(inference, agent.training_critic(agent.likelihood), obs, key)[0]

    return regularised(agent, inferred)


def slow_posterior_value(agent: Agent) -> Bootstrap:
    """As `posterior_value`, of the slow copy of the posterior, which is inferred on the slow critic."""

    def inferred(obs: Obs, key: Key) -> Distribution:
        inference = agent.targeting(agent.inference.slow)
        return agent.infer(inference, agent.likelihood.slow, obs, key)[0]

    return regularised(agent, inferred)


def prior_value(agent: Agent) -> Bootstrap:
    """V̄(s') = E_p[Q̄(s', a)] of the slow prior: the plain return of the policy that acts.

    It is for the trust-region regime: the prior is the policy of some updates ago, and the KL of an E-step is no cost.
    """

    def value(step: Transition, key: Key) -> Scalar:
        problem = agent.problem(agent.likelihood.slow, step.next_obs)
        return soft_value(problem.prior(step.next_obs), problem, key, agent.target_samples)[0]

    def log_prob(step: Transition, key: Key) -> Scalar:
        return agent.prior.slow(step.obs).log_prob(step.action)

    def no_penalty(step: Transition, key: Key) -> Scalar:
        return jnp.zeros(())

    return Bootstrap(value, no_penalty, slow_q(agent), log_prob, soft=False)


def regularised(agent: Agent, evaluated: Evaluated) -> Bootstrap:
    """V̄(s') of any policy, with α times its KL to the prior as a cost of every state."""

    def value(step: Transition, key: Key) -> Scalar:
        k_infer, k_value = jax.random.split(key)
        problem = agent.problem(agent.likelihood.slow, step.next_obs)
        return soft_value(evaluated(step.next_obs, k_infer), problem, k_value, agent.target_samples)[0]

    def penalty(step: Transition, key: Key) -> Scalar:
        k_infer, k_draw = jax.random.split(key)
        draws = evaluated(step.obs, k_infer).draw(k_draw, agent.target_samples, agent.prior.slow(step.obs))
        return agent.temperature.model(step.obs) * (draws.weight @ draws.log_ratio)

    def log_prob(step: Transition, key: Key) -> Scalar:
        return evaluated(step.obs, key).log_prob(step.action)

    return Bootstrap(value, penalty, slow_q(agent), log_prob)


def sampled_posterior_value(agent: Agent) -> Bootstrap:
    """As `posterior_value`, with α log q(a)/p(a) of the action taken in place of α KL(q‖p).

    It is an unbiased estimate where the action was sampled from q.
    """
    exact = posterior_value(agent)

    def penalty(step: Transition, key: Key) -> Scalar:
        log_p = agent.prior.slow(step.obs).log_prob(step.action)
        return agent.temperature.model(step.obs) * (exact.log_prob(step, key) - log_p)

    return exact._replace(penalty=penalty)


def slow_q(agent: Agent) -> Callable[[Transition, Key], Scalar]:
    """Q̄(s, a) of one step, by the slow critic."""

    def q(step: Transition, key: Key) -> Scalar:
        slow = agent.likelihood.slow
        return slow(agent.problem(slow, step.obs), step.action, key)

    return q


def log_mean_exp_value(agent: Agent, proposal: Callable[[Agent, Obs, Key], Distribution] = act_from_prior) -> Bootstrap:
    """V̄(s') = α log mean_k [p(a_k)/r(a_k) exp(Q̄(s', a_k)/α)], a_k ~ r, k = 1..`target_samples`.

    It estimates the value of the exact posterior, α log E_p exp(Q̄/α), the largest that any posterior has. With r = p
    it is the soft value of the Boltzmann posterior over the same samples. exp(V̄/α) is unbiased, so V̄ is too low on
    average, and more so where few samples have a high Q̄.

    Args:
        agent: its slow critic, slow prior and temperature are used.
        proposal: r, as a behaviour of `core.acting`.

    Source:
        Haarnoja et al. 2017, soft Q-learning.
    """

    def value(step: Transition, key: Key) -> Scalar:
        obs = step.next_obs
        k_proposal, k_draw, k_value = jax.random.split(key, 3)
        problem = agent.problem(agent.likelihood.slow, obs)
        p, r = problem.prior(obs), proposal(agent, obs, k_proposal)
        action = jax.vmap(r.sample)(jax.random.split(k_draw, agent.target_samples))
        values = values_of(problem, action, k_value)
        log_weight = jax.vmap(lambda u: p.log_prob(u) - r.log_prob(u))(action)
        return problem.alpha * (jax.nn.logsumexp(values / problem.alpha + log_weight) - math.log(agent.target_samples))

    return posterior_value(agent)._replace(value=value)
