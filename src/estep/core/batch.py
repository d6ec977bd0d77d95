"""The axes of a batch: sequences as rows, the first part of them, and what they remember."""

from __future__ import annotations

import jax
from jaxtyping import Array

from estep.core.types import Transition
from estep.errors import UsageError


def memo_of(batch: Transition, name: str) -> Array:
    """What the steps of a batch remember by this name.

    Raises:
        UsageError: they do not.
    """
    if name not in (batch.memo or {}):
        raise UsageError(
            f"The steps of this batch do not remember {name!r}.", "Keep with each step the memo of act_with_memo."
        )
    remembered: Array = batch.memo[name]
    return remembered


def first_rows(rows: Transition, part: float) -> Transition:
    """The first part of rows [B], one at least."""
    size = max(1, round(part * rows.reward.shape[0]))
    chosen: Transition = jax.tree.map(lambda leaf: leaf[:size], rows)
    return chosen


def flatten(batch: Transition) -> Transition:
    """A batch [B, T] as one of [B·T]."""
    flattened: Transition = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)
    return flattened
