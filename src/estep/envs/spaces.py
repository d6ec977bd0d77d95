"""The spaces of a Gymnasium environment: which are fit for continuous control, and the map from [-1, 1] to bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt

from estep.envs.base import Floats
from estep.errors import EnvironmentFailure

TOLERANCE = 1e-5
"""By how much of its size (at least 1) an observation bound is widened for rounding."""


class ObservationSpace(NamedTuple):
    """A Box, flattened to o numbers."""

    shape: tuple[int, ...]
    size: int
    kinds: str
    """NumPy dtype kinds an observation may have: a bool only where the space says bool."""
    bounded: bool
    """Whether any bound is finite."""
    low: Floats
    high: Floats
    """[o], widened by the tolerance."""


class ActionSpace(NamedTuple):
    """A bounded Box, flattened to a numbers, and the affine map onto it."""

    shape: tuple[int, ...]
    size: int
    dtype: np.dtype[Any]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    half: npt.NDArray[np.float64]
    middle: npt.NDArray[np.float64]
    """[a]: an action x in [-1, 1] becomes middle + half x."""
    plain: bool
    """Whether the bounds are [-1, 1] throughout."""

    def rescale(self, action: Floats) -> npt.NDArray[Any]:
        """Actions [..., a] in [-1, 1] to the space's bounds and dtype: never outside, end points reached.

        Clipping before the cast is enough, because rounding is monotone and the bounds are values of the dtype.
        """
        if self.plain:
            return action.clip(-1.0, 1.0).astype(self.dtype, copy=False)
        point = action * self.half + self.middle
        return point.clip(self.low, self.high).astype(self.dtype, copy=False)

    def record(self) -> dict[str, Any]:
        """Plain numbers from which `recorded` makes this space again."""
        return {
            "shape": list(self.shape),
            "dtype": self.dtype.name,
            "low": self.low.tolist(),
            "high": self.high.tolist(),
        }


def recorded(record: Mapping[str, Any]) -> ActionSpace:
    """An action space from its record. Raises KeyError, TypeError or ValueError where it is not one."""
    dtype = {"float32": np.float32, "float64": np.float64, "float16": np.float16}[record["dtype"]]
    low, high = (np.asarray(record[name], dtype).reshape(record["shape"]) for name in ("low", "high"))
    return action_space(gymnasium.spaces.Box(low, high, dtype=dtype), "the recorded action space")


def observation_space(space: Any, name: str) -> ObservationSpace:
    """Read an observation space. Raises EnvironmentFailure unless it is a Box of at least one number."""
    if not isinstance(space, gymnasium.spaces.Box):
        raise EnvironmentFailure(
            f"{name} has the observation space {_kind(space)}; estep reads Box spaces only.",
            "Wrap it in gymnasium.wrappers.FlattenObservation.",
        )
    size = int(np.prod(space.shape))
    if size == 0:
        raise EnvironmentFailure(f"{name} has an empty observation.", "Give it at least one number.")
    with np.errstate(over="ignore"):
        lowest, highest = (np.asarray(bound, np.float64).reshape(-1) for bound in (space.low, space.high))
        low = (lowest - TOLERANCE * np.maximum(1.0, np.abs(lowest))).astype(np.float32)
        high = (highest + TOLERANCE * np.maximum(1.0, np.abs(highest))).astype(np.float32)
    bounded = bool(np.isfinite(low).any() or np.isfinite(high).any())
    return ObservationSpace(space.shape, size, "fiub" if space.dtype == np.bool_ else "fiu", bounded, low, high)


def action_space(space: Any, name: str) -> ActionSpace:
    """Read an action space. Raises EnvironmentFailure unless it is a floating-point Box with sound finite bounds."""
    if not isinstance(space, gymnasium.spaces.Box) or space.dtype is None or space.dtype.kind != "f":
        raise EnvironmentFailure(
            f"{name} has the action space {_kind(space)}; estep needs a floating-point Box.",
            "Discrete actions come later; for now choose an environment with continuous actions.",
        )
    size = int(np.prod(space.shape))
    if size == 0:
        raise EnvironmentFailure(f"{name} has an empty action.", "Give it at least one number.")
    low, high = space.low.reshape(-1), space.high.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        width = high - low
    for wrong, is_wrong in (
        ("NaN", np.isnan(low) | np.isnan(high)),
        ("infinite", np.isinf(low) | np.isinf(high)),
        ("inverted", low > high),
        ("equal", low == high),
        ("too far apart, so that high - low overflows", ~np.isfinite(width)),
    ):
        if is_wrong.any():
            i = int(np.argmax(is_wrong))
            raise EnvironmentFailure(
                f"{name}: the bounds of action dimension {i}, [{low[i]:g}, {high[i]:g}], are {wrong}.",
                "Give every dimension of the action space finite bounds, low below high.",
            )
    low, high = low.astype(np.float64), high.astype(np.float64)
    plain = bool((low == -1).all() and (high == 1).all())
    return ActionSpace(space.shape, size, space.dtype, low, high, high / 2 - low / 2, high / 2 + low / 2, plain)


def _kind(space: Any) -> str:
    """How a message names a space: a Box by its dtype, another by its class."""
    return f"Box of {space.dtype}" if isinstance(space, gymnasium.spaces.Box) else type(space).__name__
