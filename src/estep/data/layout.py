"""What a replay stores of a step, and the sizes of its arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from estep.core.types import Transition, are_indices, to_index, to_one_hot
from estep.errors import RejectedInput, UsageError


class Sizes(NamedTuple):
    """The sizes of the arrays of a replay."""

    steps_per_env: int
    """Largest number of steps stored for each environment."""
    rows_per_env: int
    """Rows for each environment: one for each step, and some for the final observations of episodes."""
    observation: int
    """Numbers in an observation."""
    action: int
    """Numbers that an action is stored as: an index for each of its choices, or the numbers themselves."""
    columns: int
    """Numbers in a row beside the observation: action, reward, discount, last, and memo."""


class Row(NamedTuple):
    """What a replay stores of a step."""

    observation: int
    """Numbers in an observation."""
    choices: int | Sequence[int] = ()
    """How many choices a discrete action has, or each of its parts. However many, an index of each part is stored."""
    memo: Mapping[str, int] = MappingProxyType({})
    """Width of each further column, by name."""
    numbers: int = 0
    """How many numbers a continuous action has."""
    dtype: npt.DTypeLike = np.float32
    """Type in which observations are stored. They are read as float32."""

    @property
    def factors(self) -> tuple[int, ...]:
        """How many choices each part of a discrete action has; empty where there are none."""
        return (self.choices,) if isinstance(self.choices, int) else tuple(self.choices)


def sizes(capacity: int, num_envs: int, row: Row) -> Sizes:
    """The sizes of a replay. An episode takes one row more than it has steps.

    There are 1/64 more rows than steps, enough for episodes of 64 steps on average. If episodes are shorter, fewer
    steps are stored.

    Args:
        capacity: steps over all environments.
        num_envs: how many environments.
        row: what is stored of a step.

    Raises:
        UsageError: the capacity is smaller than the number of environments.
    """
    steps_per_env = capacity // num_envs
    if steps_per_env < 1:
        what = f"--replay-size {capacity} is too small for one step of each of {num_envs} environments."
        raise UsageError(what, f"Give --replay-size at least {num_envs}.")
    action = len(row.factors) + row.numbers
    columns = action + 3 + sum(row.memo.values())
    return Sizes(steps_per_env, steps_per_env + steps_per_env // 64 + 3, row.observation, action, columns)


def bytes_needed(capacity: int, num_envs: int, *row: Any, **fields: Any) -> int:
    """Bytes of the arrays of a `Replay(capacity, num_envs, Row(*row, **fields))`.

    Example:
        >>> from estep.data.layout import bytes_needed
        >>> bytes_needed(1_000, 1, 3, 2) == bytes_needed(1_000, 1, 3, 20_000)  # of n choices an index is stored
        True
    """
    stored = Row(*row, **fields)
    size = sizes(capacity, num_envs, stored)
    width = np.dtype(stored.dtype).itemsize * stored.observation + 4 * size.columns
    return num_envs * size.rows_per_env * width + 8 * num_envs * size.steps_per_env


def checked_chunk(
    i: int, arrays: Mapping[str, npt.NDArray[Any]], targets: Mapping[str, npt.NDArray[Any]], factors: Sequence[int]
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a saved chunk of replay, in the layout of today.

    Args:
        i: number of the chunk.
        arrays: the saved arrays, by name.
        targets: the arrays that they are to be copied to; none where there is no such chunk.
        factors: how many choices each part of a discrete action has.

    Raises:
        RejectedInput: a shape or type is wrong, a number is not finite, or an action is no choice.
    """
    if not targets or not all(len(target) and name in arrays for name, target in targets.items()):
        raise malformed(f"chunk {i} has the wrong shape or type")
    current = in_this_layout(arrays, targets, factors)
    for name, target in targets.items():
        if current[name].shape != target.shape or current[name].dtype != target.dtype:
            raise malformed(f"chunk {i} has the wrong shape or type")
        if not np.isfinite(current[name]).all():
            raise malformed(f"chunk {i} holds numbers that are not finite")
    if factors and not are_indices(current["columns"][:, : len(factors)], factors):
        raise malformed(f"chunk {i} holds actions that are no choices")
    return current


def in_this_layout(
    arrays: Mapping[str, npt.NDArray[Any]], targets: Mapping[str, npt.NDArray[Any]], factors: Sequence[int]
) -> dict[str, npt.NDArray[Any]]:
    """A saved chunk as it is stored today; what is not of an earlier layout stays as it is.

    Until 0.1.0 observations were stored as float32, whatever the type of the space, and choices as one-hot vectors.
    The arguments are those of `checked_chunk`.
    """
    obs, columns, a = arrays["obs"], arrays["columns"], sum(factors)
    if obs.dtype == np.float32 and targets["obs"].dtype == np.uint8 and (obs == np.floor(obs.clip(0, 255))).all():
        obs = obs.astype(np.uint8)
    if factors and columns.ndim == 2 and columns.shape[1] == targets["columns"].shape[1] - len(factors) + a:
        columns = np.concatenate([to_index(columns[:, :a], factors), columns[:, a:]], axis=1)
    return {"obs": obs, "columns": columns}


def as_transition(
    columns: Any,
    obs: tuple[Any, Any],
    row: tuple[Sequence[int], Mapping[str, int]],
    shape: tuple[int, ...],
) -> Transition:
    """The steps in rows of a replay.

    Args:
        columns: [n, columns]: action, reward, discount, last, and memo.
        obs: observations and next observations [n, o].
        row: the choices of a discrete action and the widths of the memo, as in `Row`.
        shape: of the result, of n steps.
    """
    factors, widths = row
    a = columns.shape[1] - 3 - sum(widths.values())
    action: Any = to_one_hot(columns[:, :a], factors) if factors else columns[:, :a]
    memo, at = {}, a + 3
    for name, width in widths.items():
        memo[name] = columns[:, at : at + width].reshape(*shape, width)
        at += width
    return Transition(
        obs=obs[0].reshape(*shape, obs[0].shape[1]),
        action=action.reshape(*shape, action.shape[1]),
        reward=columns[:, a].reshape(shape),
        discount=columns[:, a + 1].reshape(shape),
        next_obs=obs[1].reshape(*shape, obs[1].shape[1]),
        last=columns[:, a + 2].reshape(shape),
        memo=memo or (),
    )


def malformed(why: str) -> RejectedInput:
    """The error for a saved replay that cannot be used."""
    fix = "Move this checkpoint out of the run folder, then resume."
    return RejectedInput(f"The saved replay is malformed: {why}.", fix)
