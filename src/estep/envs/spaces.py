"""The spaces of a Gymnasium environment: which ones estep accepts, and how actions are converted."""

from __future__ import annotations

import abc
import functools as ft
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt

from estep.core.types import Floats, OneHot, Squash, Tanh
from estep.errors import EnvironmentFailure

if TYPE_CHECKING:
    pass


TOLERANCE = 1e-5
"""Observation bounds are widened by this fraction of their size (at least 1), because of rounding."""

REALS: Mapping[str, Any] = {"float16": np.float16, "float32": np.float32, "float64": np.float64}

INTEGERS = {"int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64}
"""Types of actions by their names in a record."""


class ObservationSpace(NamedTuple):
    """A Box, flattened to o numbers."""

    shape: tuple[int, ...]
    size: int
    kinds: str
    """NumPy dtype kinds that an observation may have. A bool is allowed only if the space has dtype bool."""
    bounded: bool
    """Whether any bound is finite."""
    low: Floats
    high: Floats
    """Bounds [o], widened by the tolerance."""


class ActionSpace(abc.ABC):
    """Converts the library's actions, float vectors of `size` numbers, to an environment's actions."""

    shape: tuple[int, ...]
    """Shape of the environment's action."""
    size: int
    dtype: np.dtype[Any]
    squash: Squash
    """The function from points u to actions."""

    @abc.abstractmethod
    def native(self, action: Floats) -> npt.NDArray[Any]:
        """The environment's actions [..., *shape] for actions [..., a]."""

    @abc.abstractmethod
    def uniform(self, generator: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        """Uniform random actions: the points u and the actions squash(u), both [count, a]."""

    @abc.abstractmethod
    def describe(self) -> str:
        """A short text for the first lines of a run."""

    @abc.abstractmethod
    def record(self) -> dict[str, Any]:
        """The space as JSON values, which `recorded` reads."""


@dataclass(frozen=True, eq=False)
class BoxActions(ActionSpace):
    """A bounded Box, flattened to `size` numbers, and the affine map from [-1, 1] to it."""

    shape: tuple[int, ...]
    size: int
    dtype: np.dtype[Any]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    squash: Squash = field(default_factory=Tanh)

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
        return flat if len(self.shape) == 1 else flat.reshape(*action.shape[:-1], *self.shape)

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


@dataclass(frozen=True, eq=False)
class Choices(ActionSpace):
    """The integers start .. start + n - 1, as one-hot vectors of n numbers."""

    size: int
    """Number of choices, n."""
    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()
    squash: Squash = field(default_factory=OneHot)

    def native(self, action: Floats) -> npt.NDArray[Any]:
        return np.asarray(action.argmax(-1) + self.start, self.dtype)

    def uniform(self, generator: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        action = np.eye(self.size, dtype=np.float32)[generator.integers(self.size, size=count)]
        return action, action

    def describe(self) -> str:
        return f"one of {self.size}"

    def record(self) -> dict[str, Any]:
        return {"n": self.size, "start": self.start, "dtype": self.dtype.name}


def recorded(record: Mapping[str, Any]) -> ActionSpace:
    """The action space of a record. Raises KeyError, TypeError, ValueError or EnvironmentFailure if the record is
    malformed."""
    name = "the recorded action space"
    if "n" in record:
        n, start = operator.index(record["n"]), operator.index(record["start"])
        return choices(n, start, np.dtype(INTEGERS[record["dtype"]]), name)
    dtype = REALS[record["dtype"]]
    low, high = (np.asarray(record[bound], dtype).reshape(record["shape"]) for bound in ("low", "high"))
    return box_actions(gymnasium.spaces.Box(low, high, dtype=dtype), name)


def observation_space(space: Any, name: str) -> ObservationSpace:
    """Read an observation space. Raises EnvironmentFailure unless it is a Box of at least one number."""
    if not isinstance(space, gymnasium.spaces.Box):
        raise EnvironmentFailure(
            f"{name} has the observation space {_kind(space)}, but estep needs a Box.",
            "Wrap the environment in gymnasium.wrappers.FlattenObservation.",
        )
    size = int(np.prod(space.shape))
    if size == 0:
        raise EnvironmentFailure(
            f"{name} has an empty observation.", "Give the observation space at least one dimension."
        )
    with np.errstate(over="ignore"):
        lowest, highest = (np.asarray(bound, np.float64).reshape(-1) for bound in (space.low, space.high))
        low = (lowest - TOLERANCE * np.maximum(1.0, np.abs(lowest))).astype(np.float32)
        high = (highest + TOLERANCE * np.maximum(1.0, np.abs(highest))).astype(np.float32)
    bounded = bool(np.isfinite(low).any() or np.isfinite(high).any())
    return ObservationSpace(space.shape, size, "fiub" if space.dtype == np.bool_ else "fiu", bounded, low, high)


def action_space(space: Any, name: str) -> ActionSpace:
    """Read an action space. Raises EnvironmentFailure unless it is a Discrete space of at least two choices or a
    floating-point Box with finite bounds, low below high."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return choices(int(space.n), int(space.start), np.dtype(space.dtype), name)
    if isinstance(space, gymnasium.spaces.Box) and space.dtype is not None and space.dtype.kind == "f":
        return box_actions(space, name)
    raise EnvironmentFailure(
        f"{name} has the action space {_kind(space)}, but estep needs a Discrete space or a floating-point Box.",
        "Wrap the environment. Several discrete actions become one Discrete space of all their combinations.",
    )


def choices(n: int, start: int, dtype: np.dtype[Any], name: str) -> Choices:
    """A discrete action space.

    Args:
        n: number of choices.
        start: the smallest of the environment's integers.
        dtype: their type.
        name: the environment's name, for messages.

    Raises:
        EnvironmentFailure: there are fewer than two choices, or the dtype cannot represent the integers.
    """
    if n < 2:
        raise EnvironmentFailure(f"{name} has {n} discrete action.", "Give the action space at least two choices.")
    limits = np.iinfo(dtype)
    if start < limits.min or start + n - 1 > limits.max:
        what = f"{name} has discrete actions from {start} to {start + n - 1}, which {dtype.name} cannot hold."
        raise EnvironmentFailure(what, "Let the discrete actions start at 0.")
    return Choices(n, start, dtype)


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


def _kind(space: Any) -> str:
    """The name of a space in messages: a Box with its dtype, any other space by its class."""
    return f"Box of {space.dtype}" if isinstance(space, gymnasium.spaces.Box) else type(space).__name__
