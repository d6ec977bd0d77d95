"""Running mean and variance of observations on the device, in float32, for one seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from estep.data.normalise import FLOOR, Moments


class Running(NamedTuple):
    """Mean and variance of the rows so far, with differences to the first row, so that a mean far from 0 does no harm.

    The variance is stored in place of the sum of squares: a sum in float32 would stop to grow. After a million rows
    both differ from sums in float64 by less than 1e-3 of a standard deviation.
    """

    number: Int[Array, ""]
    """Rows so far."""
    origin: Float[Array, " o"]
    offset: Float[Array, " o"]
    variance: Float[Array, " o"]


def nothing(size: int) -> Running:
    """No rows so far, of `size` numbers."""
    return Running(jnp.zeros((), jnp.int32), *(jnp.zeros(size) for _ in range(3)))


def count(running: Running, rows: Float[Array, "n o"]) -> Running:
    """Add rows (Chan, Golub and LeVeque). A row with a number that is not finite does not count."""
    sound: Bool[Array, " n"] = jnp.isfinite(rows).all(-1)
    new = sound.sum()
    weight = sound.astype(jnp.float32)[:, None] / jnp.maximum(new, 1).astype(jnp.float32)
    rows = jnp.where(sound[:, None], rows, 0.0)
    origin = jnp.where(running.number == 0, rows[jnp.argmax(sound)], running.origin)
    rows = rows - origin[None]
    mean = (weight * rows).sum(0)
    variance = (weight * jnp.square(rows - mean[None])).sum(0)
    total = running.number + new
    part = new.astype(jnp.float32) / jnp.maximum(total, 1).astype(jnp.float32)
    delta = mean - running.offset
    merged = Running(
        total,
        origin,
        running.offset + part * delta,
        running.variance + part * (variance - running.variance) + part * (1.0 - part) * jnp.square(delta),
    )
    return Running(*(jnp.where(new > 0, after, before) for after, before in zip(merged, running, strict=True)))


def scaling(running: Running) -> tuple[Float[Array, " o"], Float[Array, " o"]]:
    """Mean and one over the standard deviation, which is 1 before the first row."""
    scale = jnp.where(running.number == 0, 1.0, 1.0 / jnp.sqrt(jnp.maximum(running.variance, FLOOR)))
    return running.origin + running.offset, scale


def arrays(running: Running) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of `Moments.arrays`, of one seed or of a stack of them, from arrays of the host."""
    number, origin, offset, variance = (np.asarray(part, np.float64) for part in running)
    return {"count": number[..., None], "origin": origin, "offset": offset, "squares": variance * number[..., None]}


def moments(saved: Mapping[str, np.ndarray[Any, Any]]) -> Moments:
    """The moments of one seed for its policy, from `arrays`."""
    found = Moments(saved["origin"].shape[-1])
    found.load(saved)
    return found
