"""How large the arrays of a replay are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from estep.errors import UsageError


class Sizes(NamedTuple):
    """How large the arrays of a replay are."""

    share: int
    """Steps kept for each environment."""
    laps: int
    """Rows for each environment: the share, and room for the final observations of episodes."""
    observation: int
    columns: int
    """Action, reward, discount, last, and memo."""


def sizes(capacity: int, num_envs: int, observation: int, action: int, memo: Mapping[str, int] | None) -> Sizes:
    """Sizes for `capacity` steps over all environments. Each episode takes one row more than it has steps.

    1/64 more rows than steps are allotted: room for episodes of 64 steps on average; with shorter ones fewer steps
    are kept. Raises UsageError when an environment would have no step.
    """
    share = capacity // num_envs
    if share < 1:
        what = f"--replay-size {capacity} leaves no room for a step of each of {num_envs} environments."
        raise UsageError(what, f"Give --replay-size at least {num_envs}.")
    return Sizes(share, share + share // 64 + 3, observation, action + 3 + sum((memo or {}).values()))


def bytes_needed(
    capacity: int, num_envs: int, observation: int, action: int, memo: Mapping[str, int] | None = None
) -> int:
    """Bytes that Replay with the same arguments allocates for its arrays."""
    size = sizes(capacity, num_envs, observation, action, memo)
    return 4 * num_envs * size.laps * (size.observation + size.columns) + 8 * num_envs * size.share
