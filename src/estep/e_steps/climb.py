"""The E-step by gradient: climb V(s; q) in every state of a batch, as SAC and MPO do."""

from __future__ import annotations

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array

from estep.core.agent import Agent
from estep.core.batch import first_rows, flatten
from estep.core.objective import soft_value
from estep.core.slots import Draws, Inference, Inferred, Likelihood
from estep.core.types import Info, Key, Scalar, Transition

EStep: TypeAlias = tuple[Agent, Draws, Any, Info]
"""The agent with its step pending, draws of q in the first rows of the batch or in all, the memo of every row."""


def climb_each_state(agent: Agent, batch: Transition, key: Key) -> EStep:
    """The E-step of SAC: climb V(s; q) on the critic in every state of the batch."""
    agent, draws, _, info = climb(agent, agent.likelihood.model, flatten(batch), key)
    return agent, draws, batch.memo, info


def climb_each_state_slow(agent: Agent, batch: Transition, key: Key) -> EStep:
    """The E-step of MPO: V(s; q) on the slow critic."""
    agent, draws, _, info = climb(agent, agent.likelihood.slow, flatten(batch), key)
    return agent, draws, batch.memo, info


@dataclass(frozen=True)
class ClimbFraction:
    """The E-step of SAC on the first rows of the batch alone: the critic's states are as many as before."""

    part: float
    """Of the rows."""

    def __call__(self, agent: Agent, batch: Transition, key: Key) -> EStep:
        agent, draws, _, info = climb(agent, agent.likelihood.model, first_rows(flatten(batch), self.part), key)
        return agent, draws, batch.memo, info


def own_start(inference: Inference, row: Transition) -> Inference:
    """Start where the optimiser does by itself."""
    return inference


def climb(
    agent: Agent,
    likelihood: Likelihood,
    rows: Transition,
    key: Key,
    begin: Callable[[Inference, Transition], Inference] = own_start,
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
