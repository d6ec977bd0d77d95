"""The E-step by gradient: maximise V(s; q) in every state of a batch."""

from __future__ import annotations

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array

from estep.core.agent import Agent
from estep.core.batch import first_rows, flatten, task_means
from estep.core.objective import soft_value
from estep.core.slots import Draws, Inference, Inferred
from estep.core.types import Info, Key, Scalar, Transition

EStep: TypeAlias = tuple[Agent, Draws, Any, Info]
"""The result of an E-step: the agent with its step pending, samples of q [b, n] in the first b rows of the batch or in
all, the memo of every row, and scalars to log.

An E-step is a function of the agent, a batch of steps [B, T] and a random key.
"""


@dataclass(frozen=True)
class ClimbFraction:
    """An E-step, that of SAC: maximise V(s; q) in the states of the first rows of the batch.

    The critic still learns from all rows.
    """

    part: float = 1.0
    """The fraction of the rows."""

    def __call__(self, agent: Agent, batch: Transition, key: Key) -> EStep:
        agent, draws, _, info = climb(agent, first_rows(flatten(batch), self.part), key)
        return agent, draws, batch.memo, info


climb_each_state = ClimbFraction()
"""An E-step: maximise V(s; q) in every state of the batch."""


def own_start(inference: Inference, row: Transition) -> Inference:
    """The optimiser with its own start, in every row."""
    return inference


def climb(
    agent: Agent,
    rows: Transition,
    key: Key,
    begin: Callable[[Inference, Transition], Inference] = own_start,
) -> tuple[Agent, Draws, Array, Info]:
    """Maximise V(s; q) with respect to the parameters of inference; p, Q̂ and α get no gradient.

    Args:
        agent: any agent whose posterior has a density.
        rows: steps [b].
        key: a random key.
        begin: from the optimiser and one row to the optimiser as it starts there.

    Returns:
        The agent with its step pending, samples of q [b, n], λ [b, l], and scalars to log.
    """

    likelihood = agent.training_critic(agent.likelihood)

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
        info |= task_means("e/value", value, rows.obs, agent.spec)
        return -(value + inferred.earlier).mean(), (draws, inferred.lam, info)

    inference, (draws, lam, info) = agent.inference.descend(loss)
    return replace(agent, inference=inference), draws, lam, info


SHOWN = 20
"""The most iterations whose improvement is logged; where there are more, so many of them, spread evenly."""


def improvement(value: Array, values: Array) -> Info:
    """The improvement of V over the start after each iteration, and what the last iteration added.

    The last gain is a proxy for the remaining gap.

    Args:
        value: V at the result [b].
        values: V at the earlier iterates [b, k], from the start on.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.e_steps.climb import improvement
        >>> gains = improvement(jnp.asarray([6.0]), jnp.asarray([[1.0, 4.0]]))
        >>> {name: float(gain) for name, gain in gains.items()}
        {'e/improvement_1': 3.0, 'e/improvement_2': 5.0, 'e/last_gain': 2.0}
    """
    steps = jnp.append(values.mean(0), value.mean())
    last = steps.shape[0] - 1
    if last == 0:
        return {}
    shown = sorted({round(last * k / min(last, SHOWN)) for k in range(1, min(last, SHOWN) + 1)})
    gains = {f"e/improvement_{k}": steps[k] - steps[0] for k in shown}
    return gains | {"e/last_gain": steps[last] - steps[last - 1]}
