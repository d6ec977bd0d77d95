"""The axes of a batch: sequences as rows, a fraction of the rows, and what is stored with the steps."""

from __future__ import annotations

import jax
from jaxtyping import Array

from estep.core.types import Transition
from estep.errors import UsageError


def memo_of(batch: Transition, name: str) -> Array:
    """What is stored with the steps of a batch under a name.

    Raises:
        UsageError: nothing is stored under this name.
    """
    if name not in (batch.memo or {}):
        raise UsageError(
            f"The steps of this batch do not remember {name!r}.", "Keep with each step the memo of act_with_memo."
        )
    remembered: Array = batch.memo[name]
    return remembered


def first_rows(rows: Transition, part: float) -> Transition:
    """The first rows of a batch, at least one.

    Args:
        rows: steps [B].
        part: the fraction that is taken, in (0, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import Transition
        >>> from estep.core.batch import first_rows
        >>> rows = Transition(jnp.zeros((8, 3)), jnp.zeros((8, 2)), *jnp.zeros((2, 8)), jnp.zeros((8, 3)), jnp.zeros(8))
        >>> first_rows(rows, 0.25).obs.shape
        (2, 3)
    """
    size = max(1, round(part * rows.reward.shape[0]))
    chosen: Transition = jax.tree.map(lambda leaf: leaf[:size], rows)
    return chosen


def flatten(batch: Transition) -> Transition:
    """A batch [B, T] as rows [B·T], sequence by sequence.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import Transition
        >>> from estep.core.batch import flatten
        >>> n = jnp.zeros((4, 5))
        >>> flatten(Transition(jnp.zeros((4, 5, 3)), jnp.zeros((4, 5, 2)), n, n, jnp.zeros((4, 5, 3)), n)).obs.shape
        (20, 3)
    """
    flattened: Transition = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)
    return flattened
