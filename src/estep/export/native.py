"""From the actions of an agent to those of its environment, in JAX."""

from __future__ import annotations

from itertools import accumulate, pairwise

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from estep.envs.base import ActionSpace


def native(space: ActionSpace, action: Array) -> Array:
    """The environment's actions, as `ActionSpace.native` gives them, in 32 bits where JAX has no 64.

    Args:
        space: the action space.
        action: actions [n, a] in [-1, 1], or one-hot vectors of choices.
    """
    record = space.record()
    if "low" in record:
        low, high = (jnp.asarray(np.asarray(record[name], np.float32))[None] for name in ("low", "high"))
        point = jnp.clip(action * (high / 2 - low / 2) + (high / 2 + low / 2), low, high)
        return point.reshape((action.shape[0], *space.shape)).astype(dtype_of(space))
    ends = [0, *accumulate(space.factors)]
    index = jnp.stack([action[:, begin:end].argmax(-1) for begin, end in pairwise(ends)], 1)
    index = index + jnp.asarray(np.asarray(record["start"]).reshape(1, -1), index.dtype)
    return index.reshape((action.shape[0], *space.shape)).astype(dtype_of(space))


def dtype_of(space: ActionSpace) -> np.dtype[np.generic]:
    """The type of an exported action: that of the environment, of 32 bits where it has 64."""
    narrow = {"float64": np.float32, "int64": np.int32, "uint64": np.uint32}
    return np.dtype(narrow.get(space.dtype.name, space.dtype))
