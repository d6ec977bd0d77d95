"""What the critic bootstraps from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from estep.core.agent import Agent
from estep.core.objective import soft_value
from estep.core.protocols import Bootstrap, Distribution
from estep.core.types import Key, Obs, Scalar, Transition

Evaluated: TypeAlias = Callable[[Obs, Key], Distribution]
"""The policy whose value is wanted, in one state."""


def of_posterior(agent: Agent) -> Bootstrap:
    """V̄(s') of the posterior: inferred on the critic, evaluated on its slow copy (algorithms in the regularised
    regime: the KL of s' is in the value, that of s never in Q)."""

    def inferred(obs: Obs, key: Key) -> Distribution:
        inference = agent.targeting(agent.inference.model)
        return agent.infer(inference, agent.likelihood.model, obs, key)[0]

    return regularised(agent, inferred)


def of_prior(agent: Agent) -> Bootstrap:
    """V̄(s') = E_p[Q̄(s', a)] of the slow prior: the plain return of the policy that acts (trust-region regime: the
    prior is the policy of a moment ago, and the KL of an E-step is not a cost)."""

    def value(step: Transition, key: Key) -> Scalar:
        problem = agent.problem(agent.likelihood.slow, step.next_obs)
        return soft_value(problem.prior(step.next_obs), problem, key, agent.target_samples)[0]

    def log_prob(step: Transition, key: Key) -> Scalar:
        return agent.prior.slow(step.obs).log_prob(step.action)

    def free(step: Transition, key: Key) -> Scalar:
        return jnp.zeros(())

    return Bootstrap(value, free, slow_q(agent), log_prob)


def regularised(agent: Agent, policy: Evaluated) -> Bootstrap:
    """V̄(s') of a policy, with α times its KL to the prior as a cost of every state."""

    def value(step: Transition, key: Key) -> Scalar:
        k_infer, k_value = jax.random.split(key)
        problem = agent.problem(agent.likelihood.slow, step.next_obs)
        return soft_value(policy(step.next_obs, k_infer), problem, k_value, agent.target_samples)[0]

    def penalty(step: Transition, key: Key) -> Scalar:
        k_infer, k_draw = jax.random.split(key)
        draws = policy(step.obs, k_infer).draw(k_draw, agent.target_samples, agent.prior.slow(step.obs))
        return agent.temperature.model() * (draws.weight @ draws.log_ratio)

    def log_prob(step: Transition, key: Key) -> Scalar:
        return policy(step.obs, key).log_prob(step.action)

    return Bootstrap(value, penalty, slow_q(agent), log_prob)


def of_actions(agent: Agent) -> Bootstrap:
    """As `of_posterior`, with α log q(a)/p(a) of the action taken for the KL: where q took it, a sample of that."""
    exact = of_posterior(agent)

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
