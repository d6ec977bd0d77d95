"""Running mean and variance of observations in float64 on the host, and the function that normalises on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from estep.errors import RejectedInput

FLOOR = 1e-8
"""Smallest variance, so that a nearly constant observation is not scaled up."""
CLIP = 10.0
Doubles: TypeAlias = npt.NDArray[np.float64]


def normalise(obs: Float[Array, "*n o"], mean: Float[Array, " o"], scale: Float[Array, " o"]) -> Float[Array, "*n o"]:
    """clip((obs - mean) scale, -10, 10), a pure function for use inside jit.

    Args:
        obs: observations [..., o].
        mean: their mean [o].
        scale: one over their standard deviation [o].
    """
    mean, scale = (jnp.broadcast_to(part, obs.shape) for part in (mean, scale))
    return jnp.clip((obs - mean) * scale, -CLIP, CLIP)


class Moments:
    """Mean and variance of observations [o], updated batch by batch (Chan, Golub and LeVeque).

    Sums are of differences to the first observation, so that the variance is accurate even if the mean is far from 0.
    """

    def __init__(self, observation: int, left: int = 0) -> None:
        """Begin without data.

        Args:
            observation: the number o of elements of an observation.
            left: how many of them, at the end, are left as they are: the one-hot vector of a task.
        """
        self.count = 0
        """Number of rows so far. A row with a number that is not finite does not count."""
        self._left = left
        observation -= left
        self._origin = np.zeros(observation)
        self._offset = np.zeros(observation)
        self._squares = np.zeros(observation)

    def update(self, obs: npt.NDArray[Any]) -> None:
        """Add rows [n, o] of any float type. A row with a number that is not finite is skipped."""
        rows = np.asarray(obs, np.float64)
        rows = rows[:, : rows.shape[1] - self._left]
        sound = np.isfinite(rows)
        if not sound.all():
            rows = rows[sound.all(-1)]
        if not len(rows):
            return
        if self.count == 0:
            self._origin = rows[0].copy()
        rows = rows - self._origin
        offset = rows.sum(0) / len(rows)
        rows -= offset
        self._merge(len(rows), offset, np.square(rows).sum(0))

    def merge(self, other: Moments) -> None:
        """Add the data of other moments."""
        if self.count == 0:
            self._origin = other._origin.copy()
        if other.count:
            self._merge(other.count, other._origin - self._origin + other._offset, other._squares)

    @property
    def mean(self) -> npt.NDArray[np.float32]:
        """[o] in float32, for the device."""
        return np.pad(self.mean64.astype(np.float32), (0, self._left))

    @property
    def scale(self) -> npt.NDArray[np.float32]:
        """[o] in float32, for the device: one over the standard deviation; 1 before the first row."""
        if self.count == 0:
            return np.ones(len(self._origin) + self._left, np.float32)
        scale = (1.0 / np.sqrt(np.maximum(self.variance, FLOOR))).astype(np.float32)
        return np.pad(scale, (0, self._left), constant_values=1.0)

    @property
    def mean64(self) -> Doubles:
        """[o] in float64."""
        return self._origin + self._offset

    @property
    def variance(self) -> Doubles:
        """[o] in float64: the population variance, without the smallest variance FLOOR; 0 before the first row."""
        return self._squares / max(self.count, 1)

    def arrays(self) -> dict[str, Doubles]:
        """The state as float64 copies, for a checkpoint (the count is exact up to 2^53)."""
        sums = {"origin": self._origin, "offset": self._offset, "squares": self._squares}
        return {"count": np.array([self.count], np.float64)} | {name: array.copy() for name, array in sums.items()}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Load what `arrays` gave. Raises RejectedInput if a shape is wrong or a number is not finite."""
        shapes = {"count": (1,)} | dict.fromkeys(("origin", "offset", "squares"), self._origin.shape)
        for name, shape in shapes.items():
            saved = arrays.get(name)
            if saved is None or saved.shape != shape or saved.dtype != np.float64 or not np.isfinite(saved).all():
                raise RejectedInput(
                    f"The saved mean and variance of observations are malformed: {name} has the wrong shape, type or "
                    "values.",
                    "Move this checkpoint out of the run folder, then resume.",
                )
        self.count = int(arrays["count"][0])
        self._origin, self._offset, self._squares = (arrays[n].copy() for n in ("origin", "offset", "squares"))

    def _merge(self, count: int, offset: Doubles, squares: Doubles) -> None:
        """Add a batch.

        Args:
            count: number of its rows.
            offset: its mean minus the origin [o].
            squares: sum of squared differences to its mean [o].
        """
        total = self.count + count
        delta = offset - self._offset
        self._offset = self._offset + delta * (count / total)
        self._squares = self._squares + squares + np.square(delta) * (self.count * (count / total))
        self.count = total
