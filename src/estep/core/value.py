"""What the critic bootstraps from."""

from __future__ import annotations

import jax

from estep.core.agent import Agent
from estep.core.objective import soft_value
from estep.core.protocols import Bootstrap
from estep.core.types import Key, Scalar, Transition


def of_posterior(agent: Agent) -> Bootstrap:
    """V̄(s') of the posterior: inferred on the critic, evaluated on its slow copy (algorithms in the regularised
    regime: the KL of s' is in the value, that of s never in Q)."""

    def value(step: Transition, key: Key) -> Scalar:
        k_infer, k_value = jax.random.split(key)
        inference = agent.targeting(agent.inference.model)
        q, problem, _ = agent.infer(inference, agent.likelihood.model, step.next_obs, k_infer)
        return soft_value(q, problem._replace(likelihood=agent.likelihood.slow), k_value, agent.target_samples)[0]

    return Bootstrap(value)


def of_prior(agent: Agent) -> Bootstrap:
    """V̄(s') = E_p[Q̄(s', a)] of the slow prior: the plain return of the policy that acts (trust-region regime: the
    prior is the policy of a moment ago, and the KL of an E-step is not a cost)."""

    def value(step: Transition, key: Key) -> Scalar:
        problem = agent.problem(agent.likelihood.slow, step.next_obs)
        return soft_value(problem.prior(step.next_obs), problem, key, agent.target_samples)[0]

    return Bootstrap(value)
