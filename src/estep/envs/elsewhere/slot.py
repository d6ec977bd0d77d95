"""Environments that are computed elsewhere, in other processes or in C++ threads, so that several step at once."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import gymnasium


class Batch(Protocol):
    """Environments that are computed in one place."""

    def start(self) -> None:
        """Begin the steps that were prepared."""

    def seed(self, seeds: Sequence[int]) -> None:
        """Take the seeds of the episodes that begin now in all environments, where no reset takes one."""


class Elsewhere(gymnasium.Env[Any, Any], abc.ABC):
    """One environment that is computed elsewhere. `step` and `reset` wait for it."""

    limit: int | None
    """Steps after which its time limit truncates an episode; None without a time limit."""

    replays = True
    """Whether a reset with a seed begins the episode of that seed again, whatever came before."""

    @abc.abstractmethod
    def batch(self) -> Batch:
        """Where it is computed."""

    @abc.abstractmethod
    def prepare(self, action: Any, seed: int) -> Batch:
        """Note the action of the next step, which begins when the batch starts. `step` then waits for its result.

        Args:
            action: as the environment takes it.
            seed: of the next episode. An environment whose episode ends may be reset with it at once.
        """

    @abc.abstractmethod
    def again(self) -> Elsewhere:
        """The environment made anew, after a failure. Raises EnvironmentFailure if that fails too."""


def start(prepared: Iterable[Batch]) -> None:
    """Begin the steps of all environments that were prepared."""
    for batch in dict.fromkeys(prepared):
        batch.start()


def seed_all(envs: Sequence[gymnasium.Env[Any, Any]], seeds: Sequence[int]) -> None:
    """Say with which seeds all environments begin an episode now. Those of this process need not know."""
    batches: dict[Batch, list[int]] = {}
    for env, seed in zip(envs, seeds, strict=True):
        if isinstance(env, Elsewhere):
            batches.setdefault(env.batch(), []).append(seed)
    for batch, own in batches.items():
        batch.seed(own)
