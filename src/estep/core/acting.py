"""How an agent acts.

A behaviour is a function of an agent, an observation [o] and a key to the distribution of the action in that state.
"""

from __future__ import annotations

import jax
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.slots import Distribution
from estep.core.types import Action, Key, Memo, Obs


def act_from_posterior(agent: Agent, obs: Obs, key: Key) -> Distribution:
    """A behaviour: act from the approximate posterior, inferred on the agent's critic of acting."""
    return agent.infer(agent.acting(agent.inference.model), agent.acting_critic(agent.likelihood), obs, key)[0]


def act_from_prior(agent: Agent, obs: Obs, key: Key) -> Distribution:
    """A behaviour: act from the slow prior. It is the policy where the M-step fits the prior to the posterior."""
    return agent.prior.slow(obs)


def log_prob_memo(agent: Agent, q: Distribution, action: Action) -> Memo:
    """What replay stores for importance ratios: log μ(u|s).

    Args:
        agent: not used.
        q: μ, the distribution that u was sampled from.
        action: u.

    Returns:
        "log_prob" [1], in nats.
    """
    return {"log_prob": q.log_prob(action)[None]}


def act(agent: Agent, obs: Float[Array, "e o"], key: Key) -> tuple[Float[Array, "e a"], Float[Array, "e a"]]:
    """Sample one action in each of e states.

    Args:
        agent: any agent.
        obs: one observation [o] of each environment.
        key: a random key.

    Returns:
        The points u, for replay, and the actions squash(u), for the environments.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from estep import SAC, Spec, act, make_key
        >>> agent = SAC(hidden_sizes=(8,)).init(Spec(obs_dim=3, action_dim=2), make_key(0))
        >>> u, action = jax.jit(act)(agent, jnp.zeros((4, 3)), make_key(1))
        >>> bool(jnp.allclose(jnp.tanh(u), action)), action.shape
        (True, (4, 2))
    """
    u, action, _ = act_with_memo(agent, obs, key)
    return u, action


def act_with_memo(
    agent: Agent, obs: Float[Array, "e o"], key: Key
) -> tuple[Float[Array, "e a"], Float[Array, "e a"], Memo]:
    """As `act`, with what replay stores with the steps.

    Args:
        agent: any agent.
        obs: one observation [o] of each environment.
        key: a random key.

    Returns:
        u, squash(u), and the memo of each step, vectors by name with the leading axis e.
    """

    def one(obs: Obs, key: Key) -> tuple[Float[Array, " a"], Memo]:
        k_infer, k_sample = jax.random.split(key)
        q = agent.behave(agent, obs, k_infer)
        u = q.sample(k_sample)
        return u, {} if agent.remember is None else agent.remember(agent, q, u)

    u, memo = jax.vmap(one)(obs, jax.random.split(key, obs.shape[0]))
    return u, jax.vmap(agent.spec.squash)(u), memo


def act_greedily(agent: Agent, obs: Float[Array, "e o"], key: Key) -> Float[Array, "e a"]:
    """The deterministic action, squash(mode of q), in each of e states.

    Args:
        agent: any agent.
        obs: one observation [o] of each environment.
        key: a random key, for inference alone.

    Returns:
        The actions, for the environments.
    """

    def one(obs: Obs, key: Key) -> Float[Array, " a"]:
        return agent.spec.squash(agent.behave(agent, obs, key).mode())

    return jax.vmap(one)(obs, jax.random.split(key, obs.shape[0]))
