"""The whole algorithm: update = E-step, M-step, critic. The only file that knows the batch axis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from estep.core.agent import Agent
from estep.core.batch import flatten
from estep.core.slots import Draws
from estep.core.types import Info, Key, Transition


def update(agent: Agent, batch: Transition, key: Key) -> tuple[Agent, Info]:
    """One step of variational EM on a batch of shape [B, T] (T = 1 for one-step methods).

    All losses are taken at the agent as it is; then all its components step together. An update in which any loss or
    gradient is not finite leaves the agent as it was; `info["skipped"]` counts it.
    """
    new, _, info = step(agent, batch, key)
    return new, info


def step(agent: Agent, batch: Transition, key: Key) -> tuple[Agent, Any, Info]:
    """As `update`; and what the rows of the batch are to remember from now on, where inference has a memory."""
    k_e, k_c = jax.random.split(key)
    new, draws, memo, e = agent.e_step(agent, batch, k_e)  # a better q,    given p and Q̂
    batch = batch._replace(memo=memo)
    new, m = m_step(new, draws, flatten(batch))  # a better p, α, given q
    new, c = critic_step(new, batch, k_c)  # a better Q̂,    given p and q
    new, sound = apply_pending(new)
    return new, memo, e | m | c | {"skipped": 1.0 - sound.astype(jnp.float32)}


LEARNED = ("prior", "inference", "likelihood", "temperature", "projection")


def apply_pending(agent: Agent) -> tuple[Agent, Bool[Array, ""]]:
    """Take every step that is pending, or none if one of them is not sound; and say which."""
    parts = {name: getattr(agent, name) for name in LEARNED}
    # the least of a sort, not all(): XLA would compute all() anew in the loop of every leaf
    sound = jnp.sort(jnp.stack([part.pending.sound for part in parts.values() if part.pending is not None]))[0]
    return replace(agent, **{name: part.step(sound) for name, part in parts.items()}), sound


def m_step(agent: Agent, draws: Draws, rows: Transition) -> tuple[Agent, Info]:
    """Fit the multiplier to its constraint, then the prior to the posterior, in the rows that have draws."""
    kl = (draws.weight * draws.log_ratio).sum(-1)
    temperature, t = agent.temperature.descend(lambda alpha: alpha.loss(kl))
    new, p = agent.project(agent, draws, rows.obs[: kl.shape[0]])
    return replace(new, temperature=temperature), t | p


def critic_step(agent: Agent, batch: Transition, key: Key) -> tuple[Agent, Info]:
    """Fit Q̂ to the reward and to the value of the next state."""
    bootstrap = agent.bootstrap(agent)
    likelihood, info = agent.likelihood.descend(lambda critic: critic.loss(batch, bootstrap, key))
    return replace(agent, likelihood=likelihood), info
