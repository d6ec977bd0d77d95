"""The observation spaces that estep accepts, and how observations become vectors of numbers."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from estep.core.types import Floats
from estep.envs.paths import MISSING, find
from estep.errors import EnvironmentFailure

TOLERANCE = 1e-5
"""Observation bounds are widened by this fraction of their size (at least 1), because of rounding."""
MOST_CHOICES = 4096
"""A discrete observation becomes a one-hot vector of at most this many numbers."""
PIXELS = np.dtype(np.uint8)


@dataclass(frozen=True, eq=False)
class Part:
    """One Box of an observation, flattened, or one Discrete, as a one-hot vector."""

    path: tuple[str, ...]
    """Keys of the Dict spaces around it, from the outside in; empty for an observation that is no Dict."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    """Declared bounds, flattened."""
    choices: int = 0
    """n of a Discrete, whose integers begin at `low`; 0 for a Box."""

    @property
    def size(self) -> int:
        """How many numbers it becomes."""
        return self.choices or math.prod(self.shape)

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"the observation {'.'.join(self.path)!r}" if self.path else "the observation"

    def read(self, value: Any, out: Floats) -> str:
        """Write a value into `out` [size]. Returns what is wrong with it, or an empty string."""
        if not is_array(value, self.shape):
            return f"{self.name} is of type {type(value).__name__}, not an array"
        array = np.asarray(value)
        if array.shape != self.shape:
            return f"{self.name} has shape {array.shape}, not {self.shape}"
        if array.dtype.kind not in ("iu" if self.choices else "fiub" if self.dtype == np.bool_ else "fiu"):
            return f"{self.name} has dtype {array.dtype}"
        return self.write(array[None], out[None])

    def write(self, array: npt.NDArray[Any], out: Floats) -> str:
        """Write a batch of values [n, *shape] into `out` [n, size]. Returns what is wrong, or an empty string."""
        if self.choices:
            index = array.reshape(-1).astype(np.int64) - int(self.low[0])
            if ((index < 0) | (index >= self.choices)).any() or (
                array.reshape(-1) != np.floor(array.reshape(-1))
            ).any():
                return f"{self.name} is not one of its {self.choices} choices"
            out[:] = 0.0
            out[np.arange(len(out)), index] = 1.0
            return ""
        flat = array.reshape(len(array), -1)
        if self.dtype == PIXELS != array.dtype and (flat != np.floor(flat.clip(0, 255))).any():
            return f"{self.name} is not a number of uint8"
        out[:] = flat
        return ""

    def record(self) -> dict[str, Any]:
        """The part as JSON values."""
        values = {"path": list(self.path), "shape": list(self.shape), "dtype": self.dtype.name}
        return {**values, "low": shortened(self.low), "high": shortened(self.high), "choices": self.choices}


@dataclass(frozen=True, eq=False)
class ObservationSpace:
    """A Box, a Discrete or a Dict of them, flattened to o numbers in the order of its keys."""

    shape: tuple[int, ...]
    """Shape of a Box."""
    size: int
    kinds: str
    """NumPy dtype kinds that a Box's observation may have. A bool is allowed only if the space has dtype bool."""
    bounded: bool
    """Whether any bound is finite."""
    low: Floats
    high: Floats
    """Bounds [o], widened by the tolerance."""
    parts: tuple[Part, ...]
    plain: bool
    """Whether it is one Box whose values are only cast."""

    @property
    def storage(self) -> np.dtype[Any]:
        """The type in which replay stores observations: uint8 where all of them are, else float32."""
        return PIXELS if all(part.dtype == PIXELS for part in self.parts) else np.dtype(np.float32)

    @property
    def image(self) -> Part | None:
        """The first part that is an image: uint8 with three axes or more."""
        return next((part for part in self.parts if part.dtype == PIXELS and len(part.shape) > 2), None)

    def read(self, value: Any, out: Floats) -> str:
        """Write one observation into `out` [o]. Returns what is wrong with it, or an empty string."""
        begin = 0
        for part in self.parts:
            found = find(value, part.path)
            if found is MISSING:
                return f"the observation has no {'.'.join(part.path)!r}"
            wrong = part.read(found, out[begin : begin + part.size])
            if wrong:
                return wrong
            begin += part.size
        return ""

    def batch(self, value: Any) -> tuple[Floats, bool]:
        """Observations as rows [n, o], and whether it was one observation without a batch axis.

        Args:
            value: one observation as the environment gives it, or a batch of them with one leading axis (of a Dict, a
                dict of batches). A flat vector of o numbers, or a batch of them, will do too.

        Raises:
            ValueError: it is neither; the message says what is wrong.
        """
        if not isinstance(value, Mapping) and (self.parts[0].path or not self.parts[0].choices):
            array = np.asarray(value)
            if array.dtype.kind not in "fiub":
                raise ValueError(f"it is {value!r:.60}")
            array = array.astype(np.float32, copy=False)
            own = () if self.parts[0].path else ((self.shape, True), ((array.shape[:1] + self.shape), False))
            for shape, single in (*own, ((self.size,), True), ((*array.shape[:1], self.size), False)):
                if array.shape == shape and array.size:
                    return array.reshape(-1, self.size), single
            if array.size == self.size == 1 and array.ndim == 0:
                return array.reshape(1, 1), True
            raise ValueError(f"it has shape {array.shape}, and one has shape {self.shape or (self.size,)}")
        missing = [part.name for part in self.parts if find(value, part.path) is MISSING]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        arrays = [np.asarray(find(value, part.path)) for part in self.parts]
        single = all(array.shape == part.shape for array, part in zip(arrays, self.parts, strict=True))
        count = 1 if single else (arrays[0].shape or (0,))[0]
        rows = np.empty((count, self.size), np.float32)
        begin = 0
        for array, part in zip(arrays, self.parts, strict=True):
            wanted = part.shape if single else (count, *part.shape)
            if array.dtype == object or array.shape != wanted or not count:
                raise ValueError(f"{part.name} has shape {array.shape}, and one has shape {part.shape}")
            wrong = part.write(array.reshape(count, *part.shape), rows[:, begin : begin + part.size])
            if wrong:
                raise ValueError(wrong)
            begin += part.size
        return rows, single

    def record(self) -> list[dict[str, Any]]:
        """The space as JSON values, which `recorded_observations` reads."""
        return [part.record() for part in self.parts]

    def describe(self) -> str:
        """A short text for the first lines of a run."""
        names = ", ".join(f"{'.'.join(part.path)} {part.size}" for part in self.parts if part.path)
        return f"{self.size} ({names})" if names else str(self.size)


def shortened(bounds: npt.NDArray[np.float64]) -> Any:
    """Bounds as JSON values: one where all are equal. An infinite one is a text."""
    values = bounds[:1] if (bounds == bounds[0]).all() else bounds
    texts = [value if math.isfinite(value) else str(value) for value in values.tolist()]
    return texts[0] if len(texts) == 1 else texts


def recorded_observations(record: Any) -> ObservationSpace:
    """The observation space of a record. Raises KeyError, TypeError or ValueError if the record is malformed."""
    parts = []
    for saved in record:
        shape = tuple(operator.index(n) for n in saved["shape"])
        choices = operator.index(saved["choices"])
        size = 1 if choices else math.prod(shape)
        low, high = (np.array(saved[name], np.float64).reshape(-1) for name in ("low", "high"))
        low, high = (np.broadcast_to(bound, (size,)) for bound in (low, high))
        path = tuple(str(key) for key in saved["path"])
        if min(shape, default=1) < 1 or not 0 <= choices <= MOST_CHOICES or np.dtype(saved["dtype"]).kind not in "fiub":
            raise ValueError("the recorded observation space is malformed")
        parts.append(Part(path, shape, np.dtype(saved["dtype"]), low, high, choices))
    if not parts:
        raise ValueError("the recorded observation space is empty")
    return space_of(tuple(parts))


def observation_space(space: Any, name: str) -> ObservationSpace:
    """Read an observation space.

    Raises:
        EnvironmentFailure: it is neither a Box of at least one number, nor a Discrete, nor a Dict of them.
    """
    return space_of(tuple(parts_of(space, name, space, ())))


def parts_of(space: Any, name: str, whole: Any, path: tuple[str, ...]) -> list[Part]:
    """The parts of a space, in the order of the keys of its Dict spaces.

    Args:
        space: the space at `path`.
        name: the environment's name, for messages.
        whole: the environment's observation space.
        path: keys of the Dict spaces around it.
    """
    if isinstance(space, gymnasium.spaces.Dict) and space.spaces and all(isinstance(key, str) for key in space.spaces):
        return [part for key, one in space.spaces.items() for part in parts_of(one, name, whole, (*path, key))]
    if isinstance(space, gymnasium.spaces.Discrete) and space.n <= MOST_CHOICES:
        low, high = np.array([space.start], np.float64), np.array([space.start + space.n - 1], np.float64)
        return [Part(path, (), np.dtype(space.dtype), low, high, int(space.n))]
    if isinstance(space, gymnasium.spaces.MultiBinary):
        low, high = np.zeros(math.prod(space.shape)), np.ones(math.prod(space.shape))
        return [Part(path, space.shape, np.dtype(space.dtype), low, high)]
    where = f" in {'.'.join(path)!r}" if path else ""
    if not isinstance(space, gymnasium.spaces.Box) or np.dtype(space.dtype).kind not in "fiub":
        what = f"{name} has the observation space {kind_of(space)}{where}, which estep cannot read."
        raise EnvironmentFailure(what, advice(space, whole, path))
    if math.prod(space.shape) == 0:
        what = f"{name} has an empty observation{where}."
        raise EnvironmentFailure(what, "Give the observation space at least one dimension.")
    low, high = (np.asarray(bound, np.float64).reshape(-1) for bound in (space.low, space.high))
    return [Part(path, space.shape, np.dtype(space.dtype), low, high)]


def advice(space: Any, whole: Any, path: tuple[str, ...]) -> str:
    """What to do about a part of an observation space that is refused.

    Args:
        space: the part.
        whole: the environment's observation space.
        path: keys of the Dict spaces around the part.
    """
    if isinstance(space, gymnasium.spaces.Dict) and not space.spaces:
        return "Give the observation space at least one dimension."
    if isinstance(space, gymnasium.spaces.Discrete):
        return "Wrap the environment in a gymnasium.ObservationWrapper that gives numbers for the state, such as a Box."
    with suppress(NotImplementedError):  # a space of a package's own need not say
        if whole.is_np_flattenable:
            return "Wrap the environment in gymnasium.wrappers.FlattenObservation."
    others = [key for key in whole.spaces if key != path[0]] if path else []
    if others:
        return f"Wrap the environment in gymnasium.wrappers.FilterObservation with filter_keys={others}."
    return "Wrap the environment in a gymnasium.ObservationWrapper whose observation_space is a Box of fixed shape."


def space_of(parts: tuple[Part, ...]) -> ObservationSpace:
    """The observation space of these parts."""
    with np.errstate(over="ignore"):
        bounds = [np.concatenate([np.resize(getattr(p, name), p.size) for p in parts]) for name in ("low", "high")]
        for begin, part in zip(np.cumsum([0, *(p.size for p in parts)]), parts, strict=False):
            if part.choices:  # a one-hot vector
                bounds[0][begin : begin + part.size], bounds[1][begin : begin + part.size] = 0.0, 1.0
        low = (bounds[0] - TOLERANCE * np.maximum(1.0, np.abs(bounds[0]))).astype(np.float32)
        high = (bounds[1] + TOLERANCE * np.maximum(1.0, np.abs(bounds[1]))).astype(np.float32)
    bounded = bool(np.isfinite(low).any() or np.isfinite(high).any())
    first = parts[0]
    shape = () if first.path else first.shape
    plain = not first.path and not first.choices and first.dtype != PIXELS
    kinds = "fiub" if first.dtype == np.bool_ else "fiu"
    return ObservationSpace(shape, len(low), kinds, bounded, low, high, parts, plain)


def is_array(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether a value is an array, or a number where the shape has no axis."""
    if isinstance(value, np.ma.MaskedArray):
        return False
    return hasattr(value, "__array__") or (not shape and isinstance(value, numbers.Real))


def kind_of(space: Any) -> str:
    """The name of a space in messages: a Box with its dtype, any other space by its class."""
    return f"Box of {space.dtype}" if isinstance(space, gymnasium.spaces.Box) else type(space).__name__
