"""Running moments of data, as parameters that the optimiser `FOLLOW` moves."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.types import Scalar

SLOWEST = 1e-4
"""The least weight of a batch."""


class Moments(NamedTuple):
    """The mean and the standard deviation of each number in a batch of vectors."""

    mean: Float[Array, " n"]
    std: Float[Array, " n"]

    def scaled(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """x less its mean, in standard deviations. A number that does not vary is not divided."""
        varies = self.std > 1e-6 * jnp.abs(self.mean) + 1e-8
        return (x - self.mean) / jnp.where(varies, self.std, 1.0)

    def moved(self, rows: Float[Array, "b n"], rate: Scalar) -> Moments:
        """The moments of the data so far and of a batch, together.

        Args:
            rows: the batch.
            rate: the weight of the batch.
        """
        apart, spread = rows.mean(0) - self.mean, rows.var(0)
        variance = (1.0 - rate) * (jnp.square(self.std) + rate * jnp.square(apart)) + rate * spread
        return Moments(self.mean + rate * apart, jnp.sqrt(variance))


def weight_of_batch(count: Scalar) -> Scalar:
    """The weight of a batch in moments of so many batches before it: the moments are means over all of them, and over
    about the last 10,000 when there were more.
    """
    return jnp.maximum(1.0 / (count + 1.0), SLOWEST)


def distance(here: Any, there: Any) -> Scalar:
    """½|θ - φ|², whose gradient the optimiser `FOLLOW` subtracts, so that one step takes θ to φ.

    Args:
        here: parameters θ.
        there: where they should be, φ.
    """
    pairs = zip(*map(jax.tree.leaves, (here, there)), strict=True)
    return sum((0.5 * jnp.square(x - y).sum() for x, y in pairs), jnp.zeros(()))
