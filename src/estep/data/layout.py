"""The sizes of the arrays of a replay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from estep.errors import UsageError


class Sizes(NamedTuple):
    """The sizes of the arrays of a replay."""

    steps_per_env: int
    """Largest number of steps stored for each environment."""
    rows_per_env: int
    """Rows for each environment: one for each step, and some for the final observations of episodes."""
    observation: int
    """Numbers in an observation."""
    columns: int
    """Numbers in a row beside the observation: action, reward, discount, last, and memo."""


def sizes(capacity: int, num_envs: int, observation: int, action: int, memo: Mapping[str, int] | None) -> Sizes:
    """The sizes of a replay. An episode takes one row more than it has steps.

    There are 1/64 more rows than steps, enough for episodes of 64 steps on average. If episodes are shorter, fewer
    steps are stored.

    Args:
        capacity: steps over all environments.
        num_envs: how many environments.
        observation, action: numbers in an observation and in an action.
        memo: width of each further column, by name.

    Raises:
        UsageError: the capacity is smaller than the number of environments.
    """
    steps_per_env = capacity // num_envs
    if steps_per_env < 1:
        what = f"--replay-size {capacity} is too small for one step of each of {num_envs} environments."
        raise UsageError(what, f"Give --replay-size at least {num_envs}.")
    return Sizes(
        steps_per_env, steps_per_env + steps_per_env // 64 + 3, observation, action + 3 + sum((memo or {}).values())
    )


def bytes_needed(
    capacity: int, num_envs: int, observation: int, action: int, memo: Mapping[str, int] | None = None
) -> int:
    """Bytes of the arrays of a Replay with the same arguments (see `sizes`)."""
    size = sizes(capacity, num_envs, observation, action, memo)
    return 4 * num_envs * size.rows_per_env * (size.observation + size.columns) + 8 * num_envs * size.steps_per_env
