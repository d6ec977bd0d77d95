"""The whole algorithm: update = E-step, M-step, critic. The only file that knows the batch axis."""

from __future__ import annotations

import functools as ft
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from estep.core.agent import Agent
from estep.core.objective import soft_value
from estep.core.protocols import Draws, Inference, Likelihood
from estep.core.types import Info, Key, Obs, Scalar, Transition


def update(agent: Agent, batch: Transition, key: Key) -> tuple[Agent, Info]:
    """One step of variational EM on a batch of shape [B, T] (T = 1 for one-step methods).

    All losses are taken at the agent as it is; then all its components step together. An update in which any loss or
    gradient is not finite leaves the agent as it was; `info["skipped"]` counts it.
    """
    k_e, k_c = jax.random.split(key)
    new, draws, e = agent.e_step(agent, batch, k_e)  # a better q,    given p and Q̂
    new, m = m_step(new, draws, flat(batch))  # a better p, α, given q
    new, c = critic_step(new, batch, k_c)  # a better Q̂,    given p and q
    new, sound = settle(new)
    return new, e | m | c | {"skipped": 1.0 - sound.astype(jnp.float32)}


LEARNED = ("prior", "inference", "likelihood", "temperature", "projection")


def settle(agent: Agent) -> tuple[Agent, Bool[Array, ""]]:
    """Take every step that is pending, or none if one of them is not sound; and say which."""
    parts = {name: getattr(agent, name) for name in LEARNED}
    # the least of a sort, not all(): XLA would compute all() anew in the loop of every leaf
    sound = jnp.sort(jnp.stack([part.pending.sound for part in parts.values() if part.pending is not None]))[0]
    return replace(agent, **{name: part.step(sound) for name, part in parts.items()}), sound


def per_state(agent: Agent, batch: Transition, key: Key) -> tuple[Agent, Draws, Info]:
    """The E-step of SAC: climb V(s; q) on the critic in every state of the batch."""
    return climb(agent, agent.likelihood.model, batch, key)


def per_state_slow(agent: Agent, batch: Transition, key: Key) -> tuple[Agent, Draws, Info]:
    """The E-step of MPO: V(s; q) on the slow critic."""
    return climb(agent, agent.likelihood.slow, batch, key)


def climb(agent: Agent, likelihood: Likelihood, batch: Transition, key: Key) -> tuple[Agent, Draws, Info]:
    """Climb V(s; q) in every state of the batch; p, Q̂ and α stand still."""
    obs = flat(batch).obs
    keys = jax.random.split(key, obs.shape[0])

    def one(inference: Inference, obs: Obs, key: Key) -> tuple[Scalar, Draws, Scalar, Array]:
        k_infer, k_value = jax.random.split(key)
        q, problem, inferred = agent.infer(inference, likelihood, obs, k_infer)
        value, draws = soft_value(q, problem, k_value, agent.samples)
        return value, draws, inferred.earlier, inferred.values

    def loss(inference: Inference) -> tuple[Scalar, tuple[Draws, Info]]:
        value, draws, earlier, values = jax.vmap(ft.partial(one, inference))(obs, keys)
        return -(value + earlier).mean(), (draws, {"e/value": value.mean()} | improvement(value, values))

    inference, (draws, info) = agent.inference.descend(loss)
    return replace(agent, inference=inference), draws, info


def improvement(value: Array, values: Array) -> Info:
    """How far above its start, in V, the objective stands after each iteration: [B] final and [B, k] earlier ones."""
    steps = jnp.append(values.mean(0), value.mean())
    return {f"e/improvement_{k}": steps[k] - steps[0] for k in range(1, steps.shape[0])}


def m_step(agent: Agent, draws: Draws, batch: Transition) -> tuple[Agent, Info]:
    """Fit the multiplier to its constraint, then the prior to the posterior."""
    kl = (draws.weight * draws.log_ratio).sum(-1)
    temperature, t = agent.temperature.descend(lambda alpha: alpha.loss(kl))
    new, p = agent.project(agent, draws, batch.obs)
    return replace(new, temperature=temperature), t | p


def critic_step(agent: Agent, batch: Transition, key: Key) -> tuple[Agent, Info]:
    """Fit Q̂ to the reward and to the value of the next state."""
    bootstrap = agent.bootstrap(agent)
    likelihood, info = agent.likelihood.descend(lambda critic: critic.loss(batch, bootstrap, key))
    return replace(agent, likelihood=likelihood), info


def flat(batch: Transition) -> Transition:
    """A batch [B, T] as one of [B·T]."""
    flattened: Transition = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)
    return flattened
