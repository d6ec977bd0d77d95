"""What a model of the environment predicts. Learned ones are likelihoods' parts; searches need no more than this."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from jaxtyping import Array, Float, Int

from estep.core.types import Obs, Scalar


class Prediction(NamedTuple):
    """What a model predicts for one state and action."""

    mean: Float[Array, " o"]
    """Of the next observation."""
    std: Float[Array, " o"]
    """Of the next observation, which is Gaussian with independent dimensions."""
    reward: Scalar
    """The expected reward."""
    go_on: Scalar
    """The probability that the episode goes on: that the next state is not terminal."""


class Model(Protocol):
    """A model of the environment: an ensemble of predictions, or one."""

    @property
    def members(self) -> int:
        """How many predictions there are."""

    def predict(self, obs: Obs, action: Float[Array, " a"], member: Int[Array, ""]) -> Prediction:
        """What one member predicts.

        Args:
            obs: the state.
            action: squash(u), the action as the environment and the critic get it.
            member: the number of the member, from 0.
        """
