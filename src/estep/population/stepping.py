"""Stepping the environments of all seeds on the host: one after the other, or each seed's in a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
from gymnasium.envs.mujoco import MujocoEnv

from estep.core.types import Floats
from estep.envs.base import HostEnv, Step
from estep.envs.gymnasium import GymnasiumEnv
from estep.errors import EnvironmentFailure, NumericHalt
from estep.runs.provenance import usable_cores


class Outcome(NamedTuple):
    """One step of the environments of all seeds."""

    step: Step
    """Arrays [s, e, ...]."""
    failed: Mapping[int, str]
    """The seeds whose environments failed in this step, with the reason. They are not stepped again."""


class HostBatch(Protocol):
    """The environments of all seeds on the host."""

    envs: Sequence[HostEnv]
    """The environments of each seed: their spaces, episodes and counters, for logs and checkpoints."""

    def reset(self) -> Floats:
        """Begin the next episode everywhere. Returns observations [s, e, o]."""

    def step(self, action: Floats, frozen: Sequence[bool]) -> Outcome:
        """Take one step in each environment of the seeds that are not frozen.

        Args:
            action: [s, e, a], in [-1, 1] or one-hot.
            frozen: by seed. A frozen seed keeps its observations, and its steps are not valid.
        """

    def hold(self, obs: Floats) -> None:
        """Take these observations [s, e, o] as the current ones, after each of `envs` was restored."""


class SideBySide:
    """Environments that are stepped in turn, or at the same time in threads. The results are the same to the bit."""

    def __init__(self, envs: Sequence[HostEnv], threads: int = 0) -> None:
        """Take the environments of each seed.

        Args:
            envs: by seed.
            threads: how many threads step them; 0 takes the calling thread.
        """
        self.envs: Sequence[HostEnv] = list(envs)
        self._obs: Floats = np.zeros((len(envs), envs[0].num_envs, envs[0].spec.obs_dim), np.float32)
        self._map: Callable[..., Any] = ThreadPoolExecutor(threads, "estep-env").map if threads else map

    def reset(self) -> Floats:
        self._obs = np.stack([env.reset() for env in self.envs])
        return self._obs

    def step(self, action: Floats, frozen: Sequence[bool]) -> Outcome:
        found = list(self._map(self._step_one, range(len(self.envs)), action, frozen))
        steps = [step for step, _ in found]
        self._obs = np.stack([step.obs for step in steps])
        failed = {i: why for i, (_, why) in enumerate(found) if why}
        return Outcome(Step(*(np.stack(parts) for parts in zip(*steps, strict=True))), failed)

    def hold(self, obs: Floats) -> None:
        self._obs = obs

    def _step_one(self, i: int, action: Floats, is_frozen: bool) -> tuple[Step, str]:
        """A step of one seed, and why its environments failed, if they did."""
        failed = ""
        if not is_frozen:
            try:
                return self.envs[i].step(action), ""
            except (EnvironmentFailure, NumericHalt) as error:
                failed = error.what
        obs, no = self._obs[i], np.zeros(len(self._obs[i]), np.bool_)
        return Step(obs, np.zeros(len(obs), np.float32), no, ~no, no, obs), failed


def threads_for(envs: Sequence[HostEnv]) -> int:
    """How many threads step the environments of all seeds: as many as there are cores, for tasks of MuJoCo.

    MuJoCo computes without the interpreter's lock, so that its tasks gain by threads. Others would not, and some must
    not leave the thread that made them.
    """
    made = [one for env in envs if isinstance(env, GymnasiumEnv) for one in env.envs]
    gains = bool(made) and all(isinstance(one.unwrapped, MujocoEnv) for one in made)
    threads = min(usable_cores(), len(envs))
    return threads if gains and threads > 1 else 0
