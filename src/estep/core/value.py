"""What the critic bootstraps from."""

from __future__ import annotations

import functools as ft
import math
from collections.abc import Callable

import jax

from estep.core import policy
from estep.core.agent import Agent
from estep.core.objective import soft_value
from estep.core.protocols import Bootstrap, Distribution
from estep.core.types import Key, Obs, Scalar


def of_posterior(agent: Agent) -> Bootstrap:
    """V̄(s') of the posterior: inferred on the critic, evaluated on its slow copy (algorithms in the regularised
    regime: the KL of s' is in the value, that of s never in Q)."""

    def value(obs: Obs, key: Key) -> Scalar:
        k_infer, k_value = jax.random.split(key)
        inference = agent.targeting(agent.inference.model)
        q, problem, _ = agent.infer(inference, agent.likelihood.model, obs, k_infer)
        return soft_value(q, problem._replace(likelihood=agent.likelihood.slow), k_value, agent.target_samples)[0]

    return Bootstrap(value)


def of_prior(agent: Agent) -> Bootstrap:
    """V̄(s') = E_p[Q̄(s', a)] of the slow prior: the plain return of the policy that acts (trust-region regime: the
    prior is the policy of a moment ago, and the KL of an E-step is not a cost)."""

    def value(obs: Obs, key: Key) -> Scalar:
        problem = agent.problem(agent.likelihood.slow, obs)
        return soft_value(problem.prior(obs), problem, key, agent.target_samples)[0]

    return Bootstrap(value)


def log_mean_exp(agent: Agent, proposal: Callable[[Agent, Obs, Key], Distribution] = policy.of_prior) -> Bootstrap:
    """V̄(s') = α log mean_k [p(a_k)/r(a_k) exp(Q̄(s', a_k)/α)], a_k ~ r: the value of the exact posterior,
    α log E_p exp(Q̄/α), which bounds that of all others. With r = p it is the soft value of the Boltzmann posterior over
    the same draws. exp(V̄/α) has no bias, so V̄ is too low on average, the more the fewer draws hit."""

    def value(obs: Obs, key: Key) -> Scalar:
        k_proposal, k_draw, k_value = jax.random.split(key, 3)
        problem = agent.problem(agent.likelihood.slow, obs)
        p, r = problem.prior(obs), proposal(agent, obs, k_proposal)
        action = jax.vmap(r.sample)(jax.random.split(k_draw, agent.target_samples))
        keys = jax.random.split(k_value, agent.target_samples)
        values = jax.vmap(ft.partial(problem.likelihood, problem))(action, keys)
        log_weight = jax.vmap(lambda u: p.log_prob(u) - r.log_prob(u))(action)
        return problem.alpha * (jax.nn.logsumexp(values / problem.alpha + log_weight) - math.log(agent.target_samples))

    return Bootstrap(value)
