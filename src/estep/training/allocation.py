"""The replay of an agent: how much memory it needs, and its arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from estep.core.agent import Agent
from estep.data.layout import Row, bytes_needed
from estep.data.memory import check_memory
from estep.data.replay import Replay
from estep.errors import UsageError
from estep.policy.actor import memo_widths
from estep.settings.run import RunConfig

MOST_STEPS = 300_000_000
"""A checkpoint lists replay in parts of 16,384 steps, with 13 items of JSON each; `strict.MAX_ITEMS` bounds them."""


def row_of(agent: Agent, dtype: np.dtype[Any]) -> Row:
    """What replay stores of a step of an agent.

    Args:
        agent: the agent, or its structure.
        dtype: type in which observations are stored.
    """
    spec = agent.spec
    return Row(spec.obs_dim, spec.factors, memo_widths(agent), 0 if spec.factors else spec.action_dim, dtype)


def capacity(agent: Agent, config: RunConfig) -> int:
    """Steps that replay stores. For on-policy data it is two rollouts, because ends of episodes need rows too."""
    return 2 * agent.rollout or config.replay_size


def check_fits(agent: Agent, config: RunConfig, num_envs: int, dtype: np.dtype[Any]) -> int:
    """Bytes that replay uses at the end of the run. The arrays may be larger: unused memory costs nothing.

    Args:
        agent: the agent, or its structure.
        config: the settings of the run.
        num_envs: environments of all tasks together.
        dtype: type in which observations are stored.

    Raises:
        UsageError: it is shorter than what is read at once, or does not fit in memory, or in a checkpoint.
    """
    filled = max(min(capacity(agent, config), config.steps), num_envs)
    if filled > MOST_STEPS:
        what = f"A replay of {filled:,} transitions has more parts than a checkpoint may list."
        raise UsageError(what, f"Give --replay-size {MOST_STEPS} or less.")
    needed = bytes_needed(filled, num_envs, *row_of(agent, dtype))
    check_memory(needed, filled, needed / filled)
    check_sequences(agent, config, num_envs)
    return needed


def check_sequences(agent: Agent, config: RunConfig, num_envs: int) -> None:
    """Refuse a replay with fewer steps of an environment than are read at once: it never has a batch. The arguments are
    those of `check_fits`. Raises UsageError."""
    if agent.rollout or config.replay_size // num_envs >= agent.length:
        return
    of_each = f" of each of {num_envs} environments" if num_envs > 1 else ""
    what = f"--replay-size {config.replay_size} is too small: {agent.length} steps in a row{of_each} are read at once."
    raise UsageError(what, f"Give --replay-size at least {agent.length * num_envs}.")


def allocate(agent: Agent, config: RunConfig, num_envs: int, dtype: np.dtype[Any]) -> Replay:
    """Make the replay of an agent. The system provides its memory as it fills. The arguments are those of `check_fits`.

    Raises:
        UsageError: the arrays are too large for the system.
    """
    steps, row = capacity(agent, config), row_of(agent, dtype)
    try:
        return Replay(steps, num_envs, row)
    except (MemoryError, ValueError, OverflowError) as error:
        raise UsageError(
            f"Replay of {steps:,} transitions does not fit in memory: {error}.", "Give a smaller --replay-size."
        ) from error
