"""The memory that a run shares with a worker process: of each environment its action and what came of it.

Both processes make the same layout from the spaces. This module and all that a worker imports do without JAX.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
HEAD = np.dtype([("call", "u8"), ("row", "i8")])
"""At the beginning of the memory: the number of the present call of an environment, and the environment's row."""
RESETTING = (3, 4, 5, 6)
"""mjWARN_BADQPOS, BADQVEL, BADQACC and BADCTRL: with these warnings MuJoCo resets the state or the control."""
OUTCOMES = ("is_success", "success")
"""What is read of `info`."""
STEP, RESET = "step", "reset"


class Raised(NamedTuple):
    """An exception of an environment, as a worker reports it."""

    text: str
    """Its type and its text."""
    trace: str
    """Where it was raised."""


class Leaf(NamedTuple):
    """One array of an observation."""

    path: tuple[str, ...]
    """Keys of the Dict spaces around it."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Answers(NamedTuple):
    """What came of the last step, or of the last reset, of n environments. Each array is a view of the memory."""

    obs: Sequence[Array]
    """[n, *shape] of each leaf."""
    reward: Array
    outcomes: Array
    """[n, 2], NaN where `info` has none."""
    time: Array
    """Of MuJoCo's simulation."""
    warnings: Array
    """[n, 4]."""
    terminated: Array
    truncated: Array
    simulated: Array
    """Whether it is an environment of MuJoCo."""
    by_message: Array
    """Whether the answer does not fit here and comes as a message."""


def leaves(space: Any, path: tuple[str, ...] = ()) -> list[Leaf]:
    """The arrays of an observation, in the order of the keys. A space that estep cannot read has none."""
    if isinstance(space, gymnasium.spaces.Dict):
        return [leaf for key, one in space.spaces.items() for leaf in leaves(one, (*path, key))]
    known = gymnasium.spaces.Box | gymnasium.spaces.Discrete | gymnasium.spaces.MultiBinary
    if not isinstance(space, known) or np.dtype(space.dtype).kind not in "fiub":
        return []
    return [Leaf(path, space.shape or (), np.dtype(space.dtype))]


def record(observation: Any, action: Any) -> np.dtype[Any]:
    """The memory of one environment with these spaces."""
    parts = [(f"obs{i}", leaf.dtype, leaf.shape) for i, leaf in enumerate(leaves(observation))]
    numbers = [("reward", "f8"), ("outcomes", "f8", (len(OUTCOMES),)), ("time", "f8")]
    flags = [(name, "?") for name in ("terminated", "truncated", "simulated", "by_message")]
    answer = np.dtype([*parts, *numbers, ("warnings", "i8", (len(RESETTING),)), *flags], align=True)
    dtype = getattr(action, "dtype", None)
    plain = dtype is not None and np.dtype(dtype).kind in "fiub"
    taken = ("action", np.dtype(dtype), action.shape or ()) if plain else ("action", np.dtype("i8"), ())
    return np.dtype([taken, ("seed", "i8"), ("wanted", "?"), (STEP, answer), (RESET, answer)], align=True)


def answers(records: Array, kind: str) -> Answers:
    """The views of the answers to steps or to resets."""
    held = records[kind]
    obs = [held[name] for name in held.dtype.names or () if name.startswith("obs")]
    return Answers(obs, *(held[name] for name in Answers._fields[1:]))
