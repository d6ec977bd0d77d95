"""The whole algorithm: an update is an E-step, an M-step and a critic step on a batch.

The formulas elsewhere are for one state.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from estep.core.agent import Agent
from estep.core.batch import flatten, task_means
from estep.core.slots import Draws
from estep.core.types import Info, Key, Transition


def update(agent: Agent, batch: Transition, key: Key) -> tuple[Agent, Info]:
    """One step of variational EM.

    All losses are evaluated at the agent as it is, and then all its components step together. An update in which any
    loss or gradient is not finite leaves the agent as it was, and `info["skipped"]` is 1.

    Args:
        agent: any agent, or a stack of agents under `jax.vmap`.
        batch: steps [B, T]; T = 1 for one-step methods.
        key: a random key.

    Returns:
        The agent after the update, and scalars to log by name.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from estep import SAC, Spec, Transition, make_key, update
        >>> agent = SAC(hidden_sizes=(8,)).init(Spec(obs_dim=3, action_dim=2), make_key(0))
        >>> one = jnp.ones((4, 1))
        >>> batch = Transition(jnp.ones((4, 1, 3)), jnp.ones((4, 1, 2)), one, one, jnp.ones((4, 1, 3)), 0 * one)
        >>> agent, info = jax.jit(update)(agent, batch, make_key(1))
        >>> float(info["skipped"]), int(agent.likelihood.count)
        (0.0, 1)
    """
    new, _, info = step(agent, batch, key)
    return new, info


def step(agent: Agent, batch: Transition, key: Key) -> tuple[Agent, Any, Info]:
    """As `update`, with what replay is to store with the steps of the batch from now on.

    Args:
        agent: any agent.
        batch: steps [B, T].
        key: a random key.

    Returns:
        The agent, the memo of the steps [B, T] (as it came where inference has no memory), and scalars to log.
    """
    k_e, k_c = jax.random.split(key)
    new, draws, memo, e = agent.e_step(agent, batch, k_e)  # a better q,    given p and Q̂
    batch = batch._replace(memo=memo)
    new, m = m_step(new, draws, flatten(batch))  # a better p, α, given q
    new, c = critic_step(new, batch, k_c)  # a better Q̂,    given p and q
    new, sound = apply_pending(new)
    return new, memo, e | m | c | {"skipped": 1.0 - sound.astype(jnp.float32)}


LEARNED = ("prior", "inference", "likelihood", "temperature", "projection")


def apply_pending(agent: Agent) -> tuple[Agent, Bool[Array, ""]]:
    """Apply every pending step, or none if one of them is not sound.

    Returns:
        The agent, and whether the steps were applied.
    """
    parts = {name: getattr(agent, name) for name in LEARNED}
    # the least of a sort, not all(): XLA would compute all() again in the loop of every leaf
    sound = jnp.sort(jnp.stack([part.pending.sound for part in parts.values() if part.pending is not None]))[0]
    return replace(agent, **{name: part.step(sound) for name, part in parts.items()}), sound


def m_step(agent: Agent, draws: Draws, rows: Transition) -> tuple[Agent, Info]:
    """Fit the temperature to its constraint, and the prior to the posterior.

    Args:
        agent: the agent after the E-step.
        draws: samples of the posterior [b, n] in the first b rows.
        rows: steps [B·T], b of them at least.

    Returns:
        The agent with these steps pending, and scalars to log.
    """
    kl = (draws.weight * draws.log_ratio).sum(-1)
    obs = rows.obs[: kl.shape[0]]
    temperature, t = agent.temperature.descend(lambda alpha: alpha.loss(kl, obs))
    new, p = agent.project(agent, draws, obs)
    return replace(new, temperature=temperature), t | p | task_means("m/kl", kl, obs, agent.spec)


def critic_step(agent: Agent, batch: Transition, key: Key) -> tuple[Agent, Info]:
    """Fit Q̂ to the reward and to the value of the next state.

    Args:
        agent: the agent after the M-step.
        batch: steps [B, T], with the memo that the E-step wrote.
        key: a random key.

    Returns:
        The agent with this step pending, and scalars to log.
    """
    bootstrap = agent.bootstrap(agent)
    likelihood, info = agent.likelihood.descend(lambda critic: critic.loss(batch, bootstrap, key))
    return replace(agent, likelihood=likelihood), info
