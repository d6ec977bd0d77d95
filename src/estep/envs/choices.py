"""Discrete action spaces: one choice, or several independent ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from estep.core.types import Floats, OneHot, OneHots, Squash, to_index, to_one_hot
from estep.envs.base import ActionSpace
from estep.errors import EnvironmentFailure

INTEGERS: dict[str, Any] = {"int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64}
INTEGERS |= {"uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64}
"""Types of actions by their names in a record."""


@dataclass(frozen=True, eq=False)
class Choices(ActionSpace):
    """The integers start .. start + n - 1, as one-hot vectors of n numbers."""

    size: int
    """Number of choices, n."""
    start: int
    dtype: np.dtype[Any]
    factors: tuple[int, ...]
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


@dataclass(frozen=True, eq=False)
class SeveralChoices(ActionSpace):
    """Several independent choices at once (`MultiDiscrete`, `MultiBinary`), as one-hot vectors side by side."""

    shape: tuple[int, ...]
    size: int
    factors: tuple[int, ...]
    start: npt.NDArray[np.int64]
    """[k]: the smallest integer of each choice."""
    dtype: np.dtype[Any]
    squash: Squash

    def native(self, action: Floats) -> npt.NDArray[Any]:
        index = to_index(action, self.factors).astype(np.int64) + self.start
        return index.astype(self.dtype).reshape((*action.shape[:-1], *self.shape))

    def uniform(self, generator: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        index = generator.integers(self.factors, size=(count, len(self.factors)))
        action = to_one_hot(index.astype(np.float32), self.factors)
        return action, action

    def describe(self) -> str:
        if len(self.factors) == 1:
            return f"one of {self.size}"
        alike = len(set(self.factors)) == 1
        each = f"one of {self.factors[0]}" if alike else f"one of {min(self.factors)} to {max(self.factors)}"
        return f"{len(self.factors)} choices, each {each}"

    def record(self) -> dict[str, Any]:
        numbers = {"nvec": list(self.factors), "start": self.start.tolist()}
        return {"shape": list(self.shape), "dtype": self.dtype.name, **numbers}


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
    return Choices(n, start, dtype, (n,))


def several_choices(
    shape: tuple[int, ...], numbers: tuple[list[int], list[int]], dtype: np.dtype[Any], name: str
) -> SeveralChoices:
    """An action space of several independent choices.

    Args:
        shape: shape of the environment's action.
        numbers: how many choices each part has, and the smallest of its integers.
        dtype: type of the integers.
        name: the environment's name, for messages.

    Raises:
        EnvironmentFailure: there is nothing to choose, or the dtype cannot represent the integers.
    """
    factors, start = numbers
    if max(factors, default=0) < 2 or min(factors) < 1:
        raise EnvironmentFailure(f"{name} has no actions to choose between.", "Give the action space two choices.")
    if len(factors) != math.prod(shape) or len(start) != len(factors):
        raise EnvironmentFailure(f"{name} has an action space of unequal parts.", "Give each choice one start.")
    limits = np.iinfo(dtype)
    if min(start) < limits.min or max(s + n - 1 for n, s in zip(factors, start, strict=True)) > limits.max:
        what = f"{name} has discrete actions which {dtype.name} cannot hold."
        raise EnvironmentFailure(what, "Let the discrete actions start at 0.")
    squash = OneHots(tuple(factors)) if len(factors) > 1 else OneHot()
    return SeveralChoices(shape, sum(factors), tuple(factors), np.array(start, np.int64), dtype, squash)
