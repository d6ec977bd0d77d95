"""One environment: its episodes, their seeds, and what is wrong with a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import gymnasium
import numpy as np

from estep.core.types import Floats
from estep.envs.base import ActionSpace, Progress
from estep.envs.elsewhere.slot import Batch, Elsewhere
from estep.envs.guard.watch import Watch
from estep.envs.observations import ObservationSpace
from estep.envs.validation import (
    BadTransitions,
    Bounds,
    SimulationClock,
    is_flag,
    read_observation,
    read_reward,
    read_success,
)
from estep.errors import EnvironmentFailure, describe_raised

RECORDED = 100_000
"""Largest number of steps of an unfinished episode that are recorded for an exact restore."""


class SeedStream:
    """The name and the index of an environment, and the seeds of its episodes."""

    def __init__(self, name: str, index: int, seeds: tuple[int, int], cut: float) -> None:
        self.name, self.index, self.seeds, self.cut = name, index, seeds, cut

    def episode_seed(self, episode: int) -> int:
        """The seed of an episode: 31 bits (some environments accept no more), from seed, stream, index and episode."""
        seed, stream = self.seeds
        sequence = np.random.SeedSequence(seed, spawn_key=(stream, self.index, episode))
        return int(sequence.generate_state(1)[0] >> 1)


class EnvInstance:
    """One environment and its unfinished episode."""

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        stream: SeedStream,
        spaces: tuple[ObservationSpace, ActionSpace],
        watches: tuple[Watch, BadTransitions, Bounds, SimulationClock],
    ) -> None:
        self.env, self.stream = env, stream
        self.observation, self.action = spaces
        self._watch, self._bad, self._bounds, self._clock = watches
        self._calls = 0
        self._next = -1, 0
        """The next episode and its seed, where that is needed before the present one ends."""
        self._errors = np.geterr()
        self.episode = -1
        self.length = 0
        self.total = 0.0
        self.cut = False
        """Whether estep ended the last episode, because the environment has no TimeLimit and did not end it."""
        self.success: float | None = None
        self.obs = np.zeros(self.observation.size, np.float32)
        self._identity = self.obs[:0]
        self._actions = np.zeros((64, len(self.action.factors) or self.action.size), np.float32)

    def renew(self, env: gymnasium.Env[Any, Any]) -> None:
        """Take another environment in the place of one that failed. `begin` must follow."""
        self.env, self._clock = env, self._clock.of(env)

    def identify(self, one_hot: Floats) -> None:
        """Put the one-hot vector of a task at the end of every observation."""
        self._identity = one_hot
        self.obs = np.zeros(self.observation.size + len(one_hot), np.float32)

    def begin(self, episode: int) -> Floats:
        """Begin an episode, or the next episode whose first observation is good. Returns that observation [o]."""
        while True:
            self.episode, self.length, self.total, self.success = episode, 0, 0.0, None
            obs, wrong = self.reset(self.stream.episode_seed(episode))
            if not wrong:
                self._bounds.check(obs[: self.observation.size])
                self._clock.start()
                self.obs = obs
                return obs
            self._bad.bad(self.stream.index, wrong)
            episode += 1

    def reset(self, seed: int) -> tuple[Floats, str]:
        """Reset the environment with a seed. Returns its observation [o], and what is wrong with it or ""."""
        result = self.call(self.env.reset, seed=seed)
        if not isinstance(result, tuple) or len(result) != 2:
            raise self._malformed("reset", "(observation, info)")
        obs = np.empty(self.obs.size, np.float32)
        return obs, self._read(result[0], obs)

    def prepare(self, raw: Any) -> Batch:
        """Note the next action of an environment that is computed elsewhere."""
        number = self.episode + 1
        if self._next[0] != number:
            self._next = number, self.stream.episode_seed(number)
        return cast(Elsewhere, self.env).prepare(raw, self._next[1])

    def advance(self, action: Floats, raw: Any, out: Floats) -> tuple[float, bool, bool, bool]:
        """Take one step.

        Args:
            action: [a], in [-1, 1] or one-hot.
            raw: the same action as the environment takes it.
            out: [o], where the next observation is written; after a bad transition, the last good observation.

        Returns:
            Reward, terminated, truncated and valid.
        """
        result = self.call(self.env.step, raw)
        if not isinstance(result, tuple) or len(result) != 5:
            raise self._malformed("step", "(observation, reward, terminated, truncated, info)")
        value, reward, terminated, truncated, info = result
        wrong = self._read(value, out) or self._clock.was_reset()
        number = read_reward(reward)
        if number != number:
            wrong = wrong or f"the reward is {reward!r:.60}"
        if not (is_flag(terminated) and is_flag(truncated)):
            wrong = wrong or "terminated or truncated is not a bool"
        if wrong:
            out[:] = self.obs
            self._bad.bad(self.stream.index, wrong)
            return 0.0, False, True, False
        self._bounds.check(out[: self.observation.size])
        self._bad.good(self.stream.index)
        self._record(action, number)
        self.success = read_success(info, self.success)
        self.obs = out
        end, cut = bool(terminated), bool(truncated)
        self.cut = self.length >= self.stream.cut and not (end or cut)
        return number, end, cut or self.cut, True

    def progress(self) -> Progress:
        """The record from which `restore` replays the unfinished episode."""
        count = self.length if self.length <= RECORDED else 0
        return Progress(self.episode, self.length, self._actions[:count].copy(), self.obs.copy(), self.total)

    def restore(self, progress: Progress) -> bool:
        """Replay an unfinished episode. If it does not end in the same observation, begin the next episode."""
        if isinstance(self.env, Elsewhere) and not self.env.replays:
            self.begin(progress.episode + 1)
            return False
        obs = self.begin(progress.episode)
        exact = self.episode == progress.episode and len(progress.actions) == progress.length
        for action in self.action.unpack(progress.actions) if exact else ():
            obs = np.empty_like(obs)
            _, terminated, truncated, valid = self.advance(action, self.raw(action), obs)
            if terminated or truncated or not valid:
                exact = False
                break
        if exact and obs.tobytes() == progress.obs.tobytes():
            self.total = progress.total
            return True
        self.begin(progress.episode + 1)
        return False

    def continue_at(self, obs: Floats, length: int) -> None:
        """Go on from a state that was put into the environment: its observation [o], and the steps before it."""
        missing = min(length, RECORDED) - len(self._actions)
        if missing > 0:
            self._actions = np.pad(self._actions, ((0, missing), (0, 0)))
        self.obs, self.length = obs, length
        self._clock.jump()

    def raw(self, action: Floats) -> Any:
        """The environment's action for an action [a], of the same type as those of `GymnasiumEnv.step`."""
        return self.action.native(action[None])[0]

    def _read(self, value: Any, out: Floats) -> str:
        """Write an observation and the task behind it into `out` [o]. Returns what is wrong, or an empty string."""
        size = self.observation.size
        out[size:] = self._identity
        return read_observation(value, self.observation, out[:size])

    def _record(self, action: Floats, reward: float) -> None:
        """Add a good step to the unfinished episode."""
        length = self.length
        if length < RECORDED:
            if length == len(self._actions):
                self._actions = np.concatenate([self._actions, np.zeros_like(self._actions)])
            self._actions[length] = self.action.pack(action)
        self.length = length + 1
        self.total += reward

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call the environment while the watch measures the time. If a reset or a first step changed how NumPy treats
        errors, that is put back. Later steps are not asked, because asking takes two microseconds."""
        watch = self._watch
        self._calls += 1
        watch.call = self._calls
        try:
            return function(*arguments, **named)
        except (KeyboardInterrupt, EnvironmentFailure):  # the latter of a worker process, which says more
            raise
        except BaseException as error:  # an environment may raise SystemExit, or a class of its own
            raise self._raised(error) from error
        finally:
            watch.call = 0
            if not self.length and np.geterr() != self._errors:
                np.seterr(**self._errors)

    def _raised(self, error: BaseException) -> EnvironmentFailure:
        where = f"{self.stream.name} (environment {self.stream.index}, episode {self.episode}, step {self.length})"
        seed = self.stream.episode_seed(self.episode)
        what = f"{where} raised {describe_raised(error)}."
        return EnvironmentFailure(what, f"Fix the environment. Its reset(seed={seed}) begins that episode.")

    def _malformed(self, method: str, wanted: str) -> EnvironmentFailure:
        what = f"{self.stream.name} did not return {wanted} from {method}."
        return EnvironmentFailure(what, "Follow the gymnasium.Env interface. The old Gym interface has fewer values.")
