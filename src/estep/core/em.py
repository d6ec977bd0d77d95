"""The whole algorithm: update = E-step, M-step, critic. The only file that knows the batch axis."""

from __future__ import annotations

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from estep.core.agent import Agent
from estep.core.objective import soft_value
from estep.core.protocols import Draws, Inference, Inferred, Likelihood
from estep.core.types import Info, Key, Scalar, Transition
from estep.errors import UsageError


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
    new, m = m_step(new, draws, flat(batch))  # a better p, α, given q
    new, c = critic_step(new, batch, k_c)  # a better Q̂,    given p and q
    new, sound = settle(new)
    return new, memo, e | m | c | {"skipped": 1.0 - sound.astype(jnp.float32)}


LEARNED = ("prior", "inference", "likelihood", "temperature", "projection")


def settle(agent: Agent) -> tuple[Agent, Bool[Array, ""]]:
    """Take every step that is pending, or none if one of them is not sound; and say which."""
    parts = {name: getattr(agent, name) for name in LEARNED}
    # the least of a sort, not all(): XLA would compute all() anew in the loop of every leaf
    sound = jnp.sort(jnp.stack([part.pending.sound for part in parts.values() if part.pending is not None]))[0]
    return replace(agent, **{name: part.step(sound) for name, part in parts.items()}), sound


EStep: TypeAlias = tuple[Agent, Draws, Any, Info]
"""The agent with its step pending, draws of q in the first rows of the batch or in all, the memo of every row."""


def per_state(agent: Agent, batch: Transition, key: Key) -> EStep:
    """The E-step of SAC: climb V(s; q) on the critic in every state of the batch."""
    agent, draws, _, info = climb(agent, agent.likelihood.model, flat(batch), key)
    return agent, draws, batch.memo, info


def per_state_slow(agent: Agent, batch: Transition, key: Key) -> EStep:
    """The E-step of MPO: V(s; q) on the slow critic."""
    agent, draws, _, info = climb(agent, agent.likelihood.slow, flat(batch), key)
    return agent, draws, batch.memo, info


@dataclass(frozen=True)
class OnPart:
    """The E-step of SAC on the first rows of the batch alone: the critic's states are as many as before."""

    part: float
    """Of the rows."""

    def __call__(self, agent: Agent, batch: Transition, key: Key) -> EStep:
        agent, draws, _, info = climb(agent, agent.likelihood.model, first(flat(batch), self.part), key)
        return agent, draws, batch.memo, info


def anew(inference: Inference, row: Transition) -> Inference:
    """Start where the optimiser does by itself."""
    return inference


def climb(
    agent: Agent,
    likelihood: Likelihood,
    rows: Transition,
    key: Key,
    begin: Callable[[Inference, Transition], Inference] = anew,
) -> tuple[Agent, Draws, Array, Info]:
    """Climb V(s; q) in the states of rows [B]; p, Q̂ and α stand still. Also returns λ [B, l], as numbers.

    Args:
        begin: the optimiser as it starts in one row.
    """

    def one(inference: Inference, row: Transition, key: Key) -> tuple[Scalar, Draws, Inferred]:
        k_infer, k_value = jax.random.split(key)
        q, problem, inferred = agent.infer(begin(inference, row), likelihood, row.obs, k_infer)
        value, draws = soft_value(q, problem, k_value, agent.samples)
        return value, draws, inferred

    def loss(inference: Inference) -> tuple[Scalar, tuple[Draws, Array, Info]]:
        keys = jax.random.split(key, rows.reward.shape[0])
        value, draws, inferred = jax.vmap(ft.partial(one, inference))(rows, keys)
        info = {f"e/{name}": mean.mean() for name, mean in inferred.info.items()}
        info |= {"e/value": value.mean()} | improvement(value, inferred.values)
        return -(value + inferred.earlier).mean(), (draws, inferred.lam, info)

    inference, (draws, lam, info) = agent.inference.descend(loss)
    return replace(agent, inference=inference), draws, lam, info


SHOWN = 20
"""Iterations whose improvement is logged one by one; of more, as many are logged, spread evenly."""


def improvement(value: Array, values: Array) -> Info:
    """How far above its start, in V, the objective stands after each iteration, and what the last of them added, a
    proxy for the gap that is left: [B] final and [B, k] earlier ones."""
    steps = jnp.append(values.mean(0), value.mean())
    last = steps.shape[0] - 1
    if last == 0:
        return {}
    shown = sorted({round(last * k / min(last, SHOWN)) for k in range(1, min(last, SHOWN) + 1)})
    gains = {f"e/improvement_{k}": steps[k] - steps[0] for k in shown}
    return gains | {"e/last_gain": steps[last] - steps[last - 1]}


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


def memo_of(batch: Transition, name: str) -> Array:
    """What the steps of a batch remember by this name.

    Raises:
        UsageError: they do not.
    """
    if name not in (batch.memo or {}):
        raise UsageError(
            f"The steps of this batch do not remember {name!r}.", "Keep with each step the memo that policy.step gives."
        )
    remembered: Array = batch.memo[name]
    return remembered


def first(rows: Transition, part: float) -> Transition:
    """The first part of rows [B], one at least."""
    size = max(1, round(part * rows.reward.shape[0]))
    chosen: Transition = jax.tree.map(lambda leaf: leaf[:size], rows)
    return chosen


def flat(batch: Transition) -> Transition:
    """A batch [B, T] as one of [B·T]."""
    flattened: Transition = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)
    return flattened
