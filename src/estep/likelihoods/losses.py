"""How an action-value network is fitted to a scalar target: by squares, or as a histogram."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.types import Info, Scalar
from estep.nets import glorot, small_init

Output = Float[Array, " n"]
"""What the network gives for one state and action."""


class Regression(abc.ABC):
    """What the outputs of a network mean, and their loss. It has no arrays, so it can be a static field."""

    @abc.abstractmethod
    def head(self, fan_in: int, fan_out: int) -> float:
        """An `Initialiser`, of the network's last layer."""

    @property
    @abc.abstractmethod
    def bias(self) -> Output:
        """The bias of a fresh network's last layer. Its size is the number of outputs."""

    @abc.abstractmethod
    def value(self, output: Output) -> Scalar:
        """The action value, in units of the reward."""

    @abc.abstractmethod
    def loss(self, output: Output, target: Scalar) -> Scalar:
        """The loss at one step.

        Args:
            output: the outputs of the network.
            target: y, in units of the reward.
        """

    @abc.abstractmethod
    def info(self, target: Float[Array, " b"]) -> Info:
        """Scalars to log about the targets of a batch."""


@dataclass(frozen=True)
class Squared(Regression):
    """A `Regression`: ½ (Q - y)², where Q is the one output times `unit`."""

    unit: float = 1.0
    """What an output of 1 means, in units of the reward."""

    def head(self, fan_in: int, fan_out: int) -> float:
        return glorot(fan_in, fan_out)

    @property
    def bias(self) -> Output:
        return jnp.zeros(1)

    def value(self, output: Output) -> Scalar:
        return output[0] if self.unit == 1.0 else self.unit * output[0]

    def loss(self, output: Output, target: Scalar) -> Scalar:
        return 0.5 * jnp.square(self.value(output) - target)

    def info(self, target: Float[Array, " b"]) -> Info:
        return {}


@dataclass(frozen=True)
class HLGauss(Regression):
    """A `Regression`: the cross-entropy of a histogram to a Gaussian about y, the value being the histogram's mean.

    Targets are clipped to [low, high]. Three bins more on each side hold the tails of Gaussians about the limits, so
    that the mean of the histogram of y is y, up to 1e-3 of a bin. A fresh network has the histogram of 0, with a
    hundredth of it spread over all bins, from which it can move.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.likelihoods.losses import HLGauss
        >>> form = HLGauss(low=-10.0, high=10.0)
        >>> p = form.histogram(jnp.asarray(10.0))
        >>> round(float(form.value(jnp.log(p + 1e-12))), 2)
        10.0

    Source:
        Imani & White 2018, arXiv:1806.04613; with σ = 0.75 bins, Farebrother et al. 2024, arXiv:2403.03950.
    """

    low: float
    high: float
    bins: int = 101

    def head(self, fan_in: int, fan_out: int) -> float:
        return small_init(fan_in, fan_out)

    @property
    def width(self) -> float:
        """The width of a bin, in units of the reward."""
        return (self.high - self.low) / (self.bins - 2 * MARGIN)

    @property
    def bias(self) -> Output:
        return jnp.log((1.0 - SPREAD) * self.histogram(jnp.zeros(())) + SPREAD / self.bins)

    def value(self, output: Output) -> Scalar:
        middle = jnp.arange(self.bins, dtype=output.dtype) + 0.5
        return self.low + self.width * (jax.nn.softmax(output) @ middle - MARGIN)

    def histogram(self, target: Scalar) -> Output:
        """The mass of the Gaussian about a target, clipped to the range, in each bin.

        Args:
            target: y, in units of the reward.
        """
        place = (jnp.clip(target, self.low, self.high) - self.low) / self.width + MARGIN
        edges = jnp.arange(self.bins + 1, dtype=place.dtype)
        below = jax.lax.erf((edges - place) / (SIGMA * 2.0**0.5))
        return jnp.diff(below) / (below[-1] - below[0])

    def loss(self, output: Output, target: Scalar) -> Scalar:
        return -(self.histogram(target) * jax.nn.log_softmax(output)).sum()

    def info(self, target: Float[Array, " b"]) -> Info:
        return {"critic/outside": ((target < self.low) | (target > self.high)).mean()}


MARGIN = 3
"""Bins beyond each end of the range: four standard deviations of the Gaussian."""
SIGMA = 0.75
"""Its standard deviation, in bins."""
SPREAD = 0.01
"""The part of a fresh histogram that is spread over all bins."""
STEADY_REWARD = 5.0
"""The largest reward, at every step, whose value the range holds where none is given."""
SCALED_VALUE = 5.0
"""The largest value that a `SimbaV2` gives in its own unit, as published."""


def regression_of(settings: Any) -> Regression:
    """How the critic of an algorithm is fitted, by its settings.

    The range of values is ±5/(1 - γ) where none is given. The weights of a `SimbaV2` have length 1, so that with
    squares its unit is a fifth of the range.
    """
    widest = STEADY_REWARD / (1.0 - settings.gamma)
    low, high = settings.value_range or (-widest, widest)
    if settings.critic_loss == "hl-gauss":
        return HLGauss(low, high)
    return Squared(max(abs(low), abs(high)) / SCALED_VALUE if settings.network == "simba2" else 1.0)
