"""The action spaces that estep accepts, and how actions become those of the environment."""

from __future__ import annotations

import functools as ft
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from estep.core.types import Floats, Squash, Tanh
from estep.envs.base import ActionSpace
from estep.envs.choices import INTEGERS, choices, several_choices
from estep.envs.observations import kind_of
from estep.errors import EnvironmentFailure

REALS: Mapping[str, Any] = {"float16": np.float16, "float32": np.float32, "float64": np.float64}
"""Types of actions by their names in a record."""


@dataclass(frozen=True, eq=False)
class BoxActions(ActionSpace):
    """A bounded Box, flattened to `size` numbers, and the affine map from [-1, 1] to it."""

    shape: tuple[int, ...]
    size: int
    dtype: np.dtype[Any]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    squash: Squash = field(default_factory=Tanh)
    factors: tuple[int, ...] = ()

    def native(self, action: Floats) -> npt.NDArray[Any]:
        """The environment's actions, never outside the bounds; -1 and 1 give the bounds exactly.

        Clipping before the cast is enough, because rounding is monotone and the bounds are values of the dtype.
        """
        point = (
            action.clip(-1.0, 1.0)
            if self.has_unit_bounds
            else (action * self.half + self.middle).clip(self.low, self.high)
        )
        flat = point.astype(self.dtype, copy=False)
        return flat if len(self.shape) == 1 else flat.reshape((*action.shape[:-1], *self.shape))

    def uniform(self, generator: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        """u is sampled from a logistic distribution of scale ½, then a = tanh u is uniform. No inverse is needed."""
        u = (0.5 * generator.logistic(size=(count, self.size))).astype(np.float32)
        return u, np.asarray(np.tanh(u), np.float32)

    @ft.cached_property
    def has_unit_bounds(self) -> bool:
        """Whether the bounds are [-1, 1] in every dimension."""
        return bool((self.low == -1).all() and (self.high == 1).all())

    @ft.cached_property
    def half(self) -> npt.NDArray[np.float64]:
        """[a]: half the width of the bounds."""
        return self.high / 2 - self.low / 2

    @ft.cached_property
    def middle(self) -> npt.NDArray[np.float64]:
        """[a]: an action x in [-1, 1] becomes middle + half x."""
        return self.high / 2 + self.low / 2

    def describe(self) -> str:
        alike = (self.low == self.low[0]).all() and (self.high == self.high[0]).all()
        bounds = f"[{self.low[0]:g}, {self.high[0]:g}]" if alike else "different bounds"
        return f"{self.size} in {bounds}{'' if self.has_unit_bounds else ', rescaled from [-1, 1]'}"

    def record(self) -> dict[str, Any]:
        bounds = {"low": self.low.tolist(), "high": self.high.tolist()}
        return {"shape": list(self.shape), "dtype": self.dtype.name, **bounds}


def recorded(record: Mapping[str, Any]) -> ActionSpace:
    """The action space of a record. Raises KeyError, TypeError, ValueError or EnvironmentFailure if the record is
    malformed."""
    name = "the recorded action space"
    if "n" in record:
        n, start = operator.index(record["n"]), operator.index(record["start"])
        return choices(n, start, np.dtype(INTEGERS[record["dtype"]]), name)
    if "nvec" in record:
        nvec, starts = ([operator.index(n) for n in record[name]] for name in ("nvec", "start"))
        shape = tuple(operator.index(n) for n in record["shape"])
        return several_choices(shape, (nvec, starts), np.dtype(INTEGERS[record["dtype"]]), name)
    dtype = REALS[record["dtype"]]
    low, high = (np.asarray(record[bound], dtype).reshape(record["shape"]) for bound in ("low", "high"))
    return box_actions(gymnasium.spaces.Box(low, high, dtype=dtype), name)


def action_space(space: Any, name: str) -> ActionSpace:
    """Read an action space.

    Raises:
        EnvironmentFailure: it is neither a floating-point Box with finite bounds, low below high, nor a Discrete,
            MultiDiscrete or MultiBinary space with at least two choices.
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return choices(int(space.n), int(space.start), np.dtype(space.dtype), name)
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        numbers = space.nvec.reshape(-1).tolist(), space.start.reshape(-1).tolist()
        return several_choices(space.shape, numbers, np.dtype(space.dtype), name)
    if isinstance(space, gymnasium.spaces.MultiBinary):
        count = int(np.prod(space.shape))
        return several_choices(space.shape, ([2] * count, [0] * count), np.dtype(space.dtype), name)
    if isinstance(space, gymnasium.spaces.Box) and space.dtype is not None and space.dtype.kind == "f":
        return box_actions(space, name)
    what = f"{name} has the action space {kind_of(space)}, which estep cannot choose actions of."
    raise EnvironmentFailure(what, advice(space))


def advice(space: Any) -> str:
    """What to do about an action space that is refused."""
    takes = "a floating-point Box, a Discrete, a MultiDiscrete or a MultiBinary"
    if isinstance(space, gymnasium.spaces.Box):
        return "Give the Box the dtype float32, and round in the environment; or use a MultiDiscrete space."
    held: Any = getattr(space, "spaces", ())
    parts = held.values() if isinstance(space, gymnasium.spaces.Dict) else held
    if parts and all(isinstance(part, gymnasium.spaces.Box) for part in parts):
        return "Wrap the environment in a gymnasium.ActionWrapper with one Box, and split it in its method action."
    return f"Wrap the environment in a gymnasium.ActionWrapper whose action_space is {takes}."


def box_actions(space: Any, name: str) -> BoxActions:
    """A bounded Box. Raises EnvironmentFailure unless its bounds are finite, with low below high."""
    size = int(np.prod(space.shape))
    if size == 0:
        raise EnvironmentFailure(f"{name} has an empty action.", "Give the action space at least one dimension.")
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
    return BoxActions(space.shape, size, space.dtype, low, high)
