"""The interface between environments on the host and the training loop: NumPy arrays over E environments."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from estep.core.types import Floats, Spec, Squash, are_indices, to_index, to_one_hot
from estep.envs.observations import ObservationSpace

Flags: TypeAlias = npt.NDArray[np.bool_]

Counters: TypeAlias = dict[str, list[int]]
"""Numbers that a checkpoint stores as JSON."""


class Step(NamedTuple):
    """One step of E environments. The arrays are new: nothing writes to them later."""

    next_obs: Floats
    """[E, o]: the next observation. At the end of an episode it is the episode's final observation."""
    reward: Floats
    """[E]."""
    terminated: Flags
    """[E]: the task ended; the value of next_obs is 0."""
    truncated: Flags
    """[E]: a time limit or estep ended the episode; the value of next_obs is not 0."""
    valid: Flags
    """[E]: False marks a bad transition, which must not be stored. Its episode is truncated at the last good step."""
    obs: Floats
    """[E, o]: the observation to act on next: next_obs, or the first observation of the next episode."""


class Episode(NamedTuple):
    """A finished episode of at least one good step."""

    env: int
    number: int
    """Index of the episode in this environment, from 0."""
    total: float
    """Undiscounted sum of rewards."""
    length: int
    """Number of good steps."""
    cut: bool = False
    """Whether estep ended it, because the environment has no time limit."""
    success: float | None = None
    """Whether the episode was successful, from 0 to 1; None if `info` does not tell. `info["is_success"]` counts at the
    last step (as in gymnasium-robotics), `info["success"]` if it was so at any step (as in metaworld)."""
    task: str = ""
    """The task's name; empty with one environment."""


class Progress(NamedTuple):
    """The unfinished episode of one environment. Replaying its actions restores the environment's state."""

    episode: int
    length: int
    """Number of steps so far, t."""
    actions: Floats
    """[t, w], of the actions as given to `step`, packed by `ActionSpace.pack`; [0, w] if the episode is too long to be
    recorded."""
    obs: Floats
    """[o]: the last observation. A replayed episode must end in it, bit for bit."""
    total: float
    """Sum of rewards so far."""


class ActionSpace(abc.ABC):
    """Converts the library's actions, float vectors of `size` numbers, to an environment's actions."""

    shape: tuple[int, ...]
    """Shape of the environment's action."""
    size: int
    dtype: np.dtype[Any]
    squash: Squash
    """The function from points u to actions."""
    factors: tuple[int, ...]
    """How many choices each part of a discrete action has; empty where an action is a vector of numbers."""

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

    def pack(self, action: Floats) -> Floats:
        """Actions [..., a] as they are recorded: an index for each choice, or the numbers themselves."""
        return to_index(action, self.factors) if self.factors else action

    def unpack(self, saved: Floats) -> Floats:
        """Recorded actions as [..., a]. Until 0.1.0 choices were recorded as one-hot vectors, which stay as they are.

        Raises:
            ValueError: these are no actions of this space.
        """
        if self.factors and saved.shape[-1] == len(self.factors):
            if not are_indices(saved, self.factors):
                raise ValueError("recorded actions are no choices")
            return to_one_hot(saved, self.factors)
        if saved.shape[-1] != self.size:
            raise ValueError(f"recorded actions have {saved.shape[-1]} numbers, not {self.size}")
        return saved


class HostEnv(abc.ABC):
    """E environments on the host with one Spec. A new episode begins when one ends; its seed is a pure function."""

    spec: Spec
    num_envs: int
    action_space: ActionSpace
    """Converts actions in [-1, 1] or one-hot vectors to the environment's actions."""
    observation_space: ObservationSpace
    """What the environment's observations are, and how they become o numbers."""
    tasks: Mapping[str, ObservationSpace] = MappingProxyType({})
    """The observations of each task by its name, without the one-hot vector that follows them; empty with one
    environment. Environment i has task i // (E / number of tasks)."""

    @property
    def per_task(self) -> int:
        """How many environments each task has; all of them with one task."""
        return self.num_envs // max(1, len(self.tasks))

    @property
    @abc.abstractmethod
    def bad(self) -> int:
        """Number of bad transitions (and bad first observations) so far."""

    @property
    def retries(self) -> int:
        """How often an environment was made anew after a failure."""
        return 0

    @property
    def unrepeatable(self) -> str:
        """Why a resumed run would not have the bits of an undisturbed one; empty where nothing of the kind is known."""
        return ""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The environment's name, for messages and for the run folder."""

    @abc.abstractmethod
    def reset(self, episode: int | None = None) -> Floats:
        """Begin a new episode in each environment.

        Args:
            episode: number of the episode, which determines its seed; None takes the next one.

        Returns:
            The first observations [E, o].

        Raises:
            EnvironmentFailure: an environment raised, or its first observations were bad 10 times in a row.
        """

    @abc.abstractmethod
    def seed_of_episode(self, episode: int) -> int:
        """The seed with which the first environment of every task begins an episode."""

    @abc.abstractmethod
    def start_from(self, seed: int, env: int = 0) -> Floats:
        """The observation [o] that an environment gives after a reset with a seed. `reset` must follow."""

    @abc.abstractmethod
    def step(self, action: Floats) -> Step:
        """Take one step in each environment. An environment whose episode ends is reset before this returns.

        Args:
            action: [E, a], in [-1, 1] or one-hot.

        Raises:
            EnvironmentFailure: an environment raised or gave too many bad transitions.
            NumericHalt: an action is not finite.
        """

    @abc.abstractmethod
    def finished(self) -> list[Episode]:
        """The episodes that ended since the last call."""

    @abc.abstractmethod
    def progress(self) -> list[Progress]:
        """The unfinished episode of each environment, for a checkpoint."""

    @abc.abstractmethod
    def restore(self, progress: Sequence[Progress]) -> tuple[Floats, list[bool]]:
        """Replay the unfinished episodes.

        Returns:
            Observations [E, o], and for each environment whether its state was restored exactly. If it was not, a new
            episode began, and the caller must end the unfinished episode in replay.
        """

    @abc.abstractmethod
    def describe(self) -> dict[str, str]:
        """Short texts for the first lines of a run."""

    @abc.abstractmethod
    def counters(self) -> Counters:
        """The counts of recent bad transitions, for a checkpoint."""

    @abc.abstractmethod
    def load_counters(self, counters: Mapping[str, Any]) -> None:
        """Load saved counts. Raises RejectedInput if they are malformed."""

    @abc.abstractmethod
    def before_hang(self, function: Callable[[], None]) -> None:
        """Have a function called, from another thread, before the process ends because an environment hangs."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the environments. A second call does nothing."""


def names_of(space: ObservationSpace | None) -> tuple[tuple[str, int], ...]:
    """The names of the parts of an observation that is a dict, in order, and their sizes; empty for any other."""
    parts = () if space is None else space.parts
    return tuple((".".join(part.path), part.size) for part in parts if part.path)
