"""How the agent behaves."""

from __future__ import annotations

import jax
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.slots import Distribution
from estep.core.types import Action, Key, Memo, Obs


def act_from_posterior(agent: Agent, obs: Obs, key: Key) -> Distribution:
    """Act from the approximate posterior, inferred on the critic."""
    return agent.infer(agent.acting(agent.inference.model), agent.likelihood.model, obs, key)[0]


def act_from_slow_posterior(agent: Agent, obs: Obs, key: Key) -> Distribution:
    """Act from the approximate posterior, inferred on the slow critic."""
    return agent.infer(agent.acting(agent.inference.model), agent.likelihood.slow, obs, key)[0]


def act_from_prior(agent: Agent, obs: Obs, key: Key) -> Distribution:
    """Act from the slow prior: where the M-step moves the prior to the posterior, it is the policy."""
    return agent.prior.slow(obs)


def log_prob_memo(agent: Agent, q: Distribution, action: Action) -> Memo:
    """Remember log μ(u|s) of the distribution that drew u, for importance ratios."""
    return {"log_prob": q.log_prob(action)[None]}


def act(agent: Agent, obs: Float[Array, "e o"], key: Key) -> tuple[Float[Array, "e a"], Float[Array, "e a"]]:
    """Draw one action in each of e states: the points u, and the actions squash(u), to be taken."""
    u, action, _ = act_with_memo(agent, obs, key)
    return u, action


def act_with_memo(
    agent: Agent, obs: Float[Array, "e o"], key: Key
) -> tuple[Float[Array, "e a"], Float[Array, "e a"], Memo]:
    """As `act`; and what is to be remembered of it."""

    def one(obs: Obs, key: Key) -> tuple[Float[Array, " a"], Memo]:
        k_infer, k_sample = jax.random.split(key)
        q = agent.behave(agent, obs, k_infer)
        u = q.sample(k_sample)
        return u, {} if agent.remember is None else agent.remember(agent, q, u)

    u, memo = jax.vmap(one)(obs, jax.random.split(key, obs.shape[0]))
    return u, jax.vmap(agent.spec.squash)(u), memo


def act_greedily(agent: Agent, obs: Float[Array, "e o"], key: Key) -> Float[Array, "e a"]:
    """The deterministic action, squash(mode of q), in each of e states; the key feeds inference alone."""

    def one(obs: Obs, key: Key) -> Float[Array, " a"]:
        return agent.spec.squash(agent.behave(agent, obs, key).mode())

    return jax.vmap(one)(obs, jax.random.split(key, obs.shape[0]))
