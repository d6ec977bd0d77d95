"""The axes of a batch: sequences as rows, a fraction of the rows, and what is stored with the steps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.types import Info, Spec, Transition
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


def task_means(name: str, values: Float[Array, " b"], obs: Float[Array, "b o"], spec: Spec) -> Info:
    """The mean of a number over the states of each task, as scalars `name/0`, `name/1` and so on; none with one task.

    Args:
        name: the metric of the mean over all states.
        values: the number in each state.
        obs: the states.
        spec: how many tasks there are.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import Spec
        >>> from estep.core.batch import task_means
        >>> obs = jnp.asarray([[5.0, 1.0, 0.0], [6.0, 0.0, 1.0], [7.0, 0.0, 1.0]])
        >>> means = task_means("m/kl", jnp.asarray([1.0, 2.0, 4.0]), obs, Spec(obs_dim=3, action_dim=1, tasks=2))
        >>> {name: float(mean) for name, mean in means.items()}
        {'m/kl/0': 1.0, 'm/kl/1': 3.0}
    """
    if not spec.tasks:
        return {}
    task = obs[:, -spec.tasks :]
    means = (values[:, None] * task).sum(0) / jnp.maximum(task.sum(0), 1.0)
    return {f"{name}/{i}": means[i] for i in range(spec.tasks)}
