"""What a host environment offers the training loop: NumPy arrays over E environments, stepped side by side."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from estep.core.types import Spec

if TYPE_CHECKING:
    from estep.envs.spaces import ActionSpace
from estep.envs.spaces import Floats

Flags: TypeAlias = npt.NDArray[np.bool_]

Counters: TypeAlias = dict[str, list[int]]
"""Plain numbers for a checkpoint."""


class Step(NamedTuple):
    """One step of E environments. The arrays are fresh: nothing writes to them later."""

    next_obs: Floats
    """[E, o]: the true successor, which at the end of an episode is its final observation."""
    reward: Floats
    """[E]."""
    terminated: Flags
    """[E]: the task ended; the value of next_obs is 0."""
    truncated: Flags
    """[E]: ended by a limit, or cut by us; the value of next_obs still counts."""
    valid: Flags
    """[E]: False marks a bad transition, never to be stored; its episode ended as truncated at the last good step."""
    obs: Floats
    """[E, o]: where to act next, either next_obs or the first observation of the next episode."""


class Episode(NamedTuple):
    """A finished episode of at least one good step."""

    env: int
    number: int
    """Which episode of this environment, from 0."""
    total: float
    """Undiscounted sum of rewards."""
    length: int
    """Good steps."""


class Progress(NamedTuple):
    """The open episode of one environment: enough to come back to its state by replaying it."""

    episode: int
    length: int
    """Steps taken so far, t."""
    actions: Floats
    """[t, a] as given to `step`, or [0, a] where t is above the cap and the episode is not recorded."""
    obs: Floats
    """[o]: the last observation, against which a replayed episode is compared bit for bit."""
    total: float
    """Sum of rewards so far."""


class HostEnv(abc.ABC):
    """E environments on the host with one Spec. Episodes begin by themselves; the seed of each is a pure function."""

    spec: Spec
    num_envs: int
    action_space: ActionSpace
    """The map from actions to the environment's own."""

    @property
    @abc.abstractmethod
    def bad(self) -> int:
        """Bad transitions (and bad first observations) met so far."""

    @abc.abstractmethod
    def reset(self) -> Floats:
        """Begin a new episode in each environment: observations [E, o].

        Raises EnvironmentFailure when an environment raises or its first observations are bad 10 times in a row.
        """

    @abc.abstractmethod
    def step(self, action: Floats) -> Step:
        """Take actions [E, a], in [-1, 1] or one-hot. Environments whose episode ends are reset before this returns.

        Raises EnvironmentFailure when an environment raises or gives too many bad transitions, and NumericHalt for
        an action that is not finite.
        """

    @abc.abstractmethod
    def finished(self) -> list[Episode]:
        """The episodes that ended since the last call."""

    @abc.abstractmethod
    def progress(self) -> list[Progress]:
        """The open episode of each environment, for a checkpoint."""

    @abc.abstractmethod
    def restore(self, progress: Sequence[Progress]) -> tuple[Floats, list[bool]]:
        """Replay the open episodes. Returns observations [E, o] and, per environment, whether the state is exact.

        Where it is not, a new episode was begun, and the caller must cut the one it has in replay.
        """

    @abc.abstractmethod
    def describe(self) -> dict[str, str]:
        """Short strings for the start-up line."""

    @abc.abstractmethod
    def counters(self) -> Counters:
        """The window of bad transitions, for a checkpoint."""

    @abc.abstractmethod
    def load_counters(self, counters: Mapping[str, Any]) -> None:
        """Take up a saved window. Raises RejectedInput when it is malformed."""

    @abc.abstractmethod
    def close(self) -> None:
        """Free the environments. A second call does nothing."""
