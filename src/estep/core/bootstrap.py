"""What the critic bootstraps from."""

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
"""The policy whose value is wanted, in one state."""


def posterior_value(agent: Agent) -> Bootstrap:
    """V̄(s') of the posterior: inferred on the critic, evaluated on its slow copy (algorithms in the regularised
    regime: the KL of s' is in the value, that of s never in Q)."""

    def inferred(obs: Obs, key: Key) -> Distribution:
        inference = agent.targeting(agent.inference.model)
        return agent.infer(inference, agent.likelihood.model, obs, key)[0]

    return regularised(agent, inferred)


def prior_value(agent: Agent) -> Bootstrap:
    """V̄(s') = E_p[Q̄(s', a)] of the slow prior: the plain return of the policy that acts (trust-region regime: the
    prior is the policy of a moment ago, and the KL of an E-step is not a cost)."""

    def value(step: Transition, key: Key) -> Scalar:
        problem = agent.problem(agent.likelihood.slow, step.next_obs)
        return soft_value(problem.prior(step.next_obs), problem, key, agent.target_samples)[0]

    def log_prob(step: Transition, key: Key) -> Scalar:
        return agent.prior.slow(step.obs).log_prob(step.action)

    def no_penalty(step: Transition, key: Key) -> Scalar:
        return jnp.zeros(())

    return Bootstrap(value, no_penalty, slow_q(agent), log_prob, soft=False)


def regularised(agent: Agent, evaluated: Evaluated) -> Bootstrap:
    """V̄(s') of a policy, with α times its KL to the prior as a cost of every state."""

    def value(step: Transition, key: Key) -> Scalar:
        k_infer, k_value = jax.random.split(key)
        problem = agent.problem(agent.likelihood.slow, step.next_obs)
        return soft_value(evaluated(step.next_obs, k_infer), problem, k_value, agent.target_samples)[0]

    def penalty(step: Transition, key: Key) -> Scalar:
        k_infer, k_draw = jax.random.split(key)
        draws = evaluated(step.obs, k_infer).draw(k_draw, agent.target_samples, agent.prior.slow(step.obs))
        return agent.temperature.model() * (draws.weight @ draws.log_ratio)

    def log_prob(step: Transition, key: Key) -> Scalar:
        return evaluated(step.obs, key).log_prob(step.action)

    return Bootstrap(value, penalty, slow_q(agent), log_prob)


def sampled_posterior_value(agent: Agent) -> Bootstrap:
    """As `posterior_value`, with α log q(a)/p(a) of the action taken for the KL: where q took it, a sample of that."""
    exact = posterior_value(agent)

    def penalty(step: Transition, key: Key) -> Scalar:
        log_p = agent.prior.slow(step.obs).log_prob(step.action)
        return agent.temperature.model() * (exact.log_prob(step, key) - log_p)

    return exact._replace(penalty=penalty)


def slow_q(agent: Agent) -> Callable[[Transition, Key], Scalar]:
    """Q̄(s, a) of one step."""

    def q(step: Transition, key: Key) -> Scalar:
        slow = agent.likelihood.slow
        return slow(agent.problem(slow, step.obs), step.action, key)

    return q


def log_mean_exp_value(agent: Agent, proposal: Callable[[Agent, Obs, Key], Distribution] = act_from_prior) -> Bootstrap:
    """V̄(s') = α log mean_k [p(a_k)/r(a_k) exp(Q̄(s', a_k)/α)], a_k ~ r: the value of the exact posterior,
    α log E_p exp(Q̄/α), which bounds that of all others. With r = p it is the soft value of the Boltzmann posterior over
    the same draws. exp(V̄/α) has no bias, so V̄ is too low on average, the more the fewer draws hit."""

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
