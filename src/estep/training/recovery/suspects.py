"""Finds the steps in replay on which no update is finite. They are found by halves: each test is an update on a part of
a batch, filled up with copies, by an agent that is thrown away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from estep.core.agent import Agent
from estep.core.types import Key, Transition
from estep.policy.actor import Scaling
from estep.training.update import improve

Rows = npt.NDArray[np.int64]
FEW = 1 / 4
"""If more than this part of a batch is to blame, the agent is, and nothing is dropped."""
MOST_DROPPED = 0.01
"""Steps of replay that may be dropped, as a part of all steps of the run; or a hundred, if that is more."""


def bad_rows(unsound: Callable[[Sequence[Rows]], npt.NDArray[np.bool_]], rows: Rows) -> Rows:
    """The rows that make an update unsound by themselves; none if they are many, or if there are none.

    Args:
        unsound: tells of each of several sets of rows whether an update on it alone is unsound.
        rows: the rows of an update that was skipped.

    Example:
        >>> import numpy as np
        >>> tested = lambda sets: np.array([bool({3, 14} & set(rows.tolist())) for rows in sets])
        >>> print(bad_rows(tested, np.arange(32)))
        [ 3 14]
        >>> print(bad_rows(lambda sets: np.ones(len(sets), bool), np.arange(32)))  # whatever the batch
        []
    """
    found: list[Rows] = []
    suspects = [np.unique(rows)]
    most = max(2, int(suspects[0].size * FEW))
    suspects = [part for part, bad in zip(suspects, unsound(suspects), strict=True) if bad]
    while suspects:
        halves = [half for part in suspects for half in np.array_split(part, 2) if half.size]
        guilty = [half for half, bad in zip(halves, unsound(halves), strict=True) if bad]
        found += [half for half in guilty if half.size == 1]
        suspects = [half for half in guilty if half.size > 1]
        if len(found) + len(suspects) > most:
            return np.zeros(0, np.int64)
    return np.sort(np.concatenate([np.zeros(0, np.int64), *found]))


def allowed(found: Rows, dropped: int, env_steps: int) -> Rows:
    """The rows that may be dropped: all that were found, or none if they were too many over the run.

    Example:
        >>> import numpy as np
        >>> print(allowed(np.arange(2), 99, 1_000), allowed(np.arange(2), 99, 10_100))
        [] [0 1]
    """
    return found[:0] if dropped + len(found) > max(100, MOST_DROPPED * env_steps) else found


def to_blame(
    agent: Agent,
    read: Callable[[Rows], Transition],
    blocks: tuple[Rows, npt.NDArray[Any]],
    how: tuple[Key, int, Scaling],
) -> Rows:
    """The rows on which no update of a block is finite.

    Args:
        agent: the agent after the block. It is not changed.
        read: gives the batches of rows [K, B, T].
        blocks: the rows of the block [K, B, T], and which of its updates were skipped [K].
        how: key, number of the first update, and scaling.
    """
    rows, skipped = blocks
    key, first, scaling = how
    found = np.zeros(0, np.int64)
    for i in np.flatnonzero(skipped):
        if not np.isin(rows[i], found).any():
            test = tested(agent, read, rows.shape, (key, first + int(i), scaling))
            found = np.append(found, bad_rows(test, rows[i]))
    return found


def tested(
    agent: Agent, read: Callable[[Rows], Transition], shape: tuple[int, ...], how: tuple[Key, int, Scaling]
) -> Callable[[Sequence[Rows]], npt.NDArray[np.bool_]]:
    """The test of `bad_rows`: updates of copies of an agent.

    Args:
        agent: it is not changed.
        read: gives the batches of rows [K, B, T].
        shape: of a block, (K, B, T), so that the program is the one that is compiled.
        how: key, number of the update, and scaling.
    """
    count, *batch = shape

    def unsound(sets: Sequence[Rows]) -> npt.NDArray[np.bool_]:
        flags: list[bool] = []
        for start in range(0, len(sets), count):
            part = [np.resize(rows, batch) for rows in sets[start : start + count]]
            rows = np.stack([part[i % len(part)] for i in range(count)])
            flags += skipped(agent, read(rows), how).astype(bool).tolist()[: len(part)]
        return np.array(flags, np.bool_)

    return unsound


def skipped(agent: Agent, batches: Transition, how: tuple[Key, int, Scaling]) -> npt.NDArray[Any]:
    """Which updates of a block [K] a copy of an agent would skip."""
    info = rehearsed(agent, batches, how)
    return info["skipped"]


def rehearsed(agent: Agent, batches: Transition, how: tuple[Key, int, Scaling]) -> dict[str, npt.NDArray[Any]]:
    """The metrics of a block of updates of a copy of an agent."""
    key, number, scaling = how
    copied = jax.tree.map(jnp.copy, agent)
    _, (_, info) = improve(copied, batches, key, np.uint32(number % 2**32), scaling)
    return {name: np.asarray(value) for name, value in jax.device_get(info).items()}
