"""Gymnasium environments for the training loop: plain environments stepped in turn, with resets and seeds of ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from estep.core.types import Spec
from estep.envs.base import Counters, Episode, HostEnv, Progress, Step
from estep.envs.build import TRAIN, Source, build, source_name, time_limit
from estep.envs.spaces import ActionSpace, Floats, ObservationSpace, action_space, observation_space
from estep.envs.validation import (
    BadTransitions,
    Bounds,
    SimulationClock,
    finite,
    is_flag,
    read_observation,
    read_reward,
)
from estep.envs.watch import Watch, leave
from estep.errors import EnvironmentFailure, NumericHalt

RECORDED = 100_000
"""Steps of an open episode that are kept for an exact restore."""


def make(
    env: Source,
    *,
    num_envs: int = 1,
    seed: int = 0,
    stream: int = TRAIN,
    max_episode_steps: int | None = None,
    timeout: float = 60.0,
    on_hang: Callable[[str], None] = leave,
) -> GymnasiumEnv:
    """Environments from a Gymnasium id (`module:Id` too), one instance, or a function without arguments.

    seed and stream decide every episode's seed; max_episode_steps caps the episodes of an environment without a
    TimeLimit; timeout is the seconds one call may take (0: no limit), after which on_hang is called with a message
    from another thread. Raises UsageError for an unknown id or a missing module (exit 2), EnvironmentFailure for an
    environment that is unfit or raises (exit 5).
    """
    envs, name = build(env, num_envs, stream), source_name(env)
    observation, action = observation_space(envs[0].observation_space, name), action_space(envs[0].action_space, name)
    for other in envs[1:]:
        if (other.observation_space, other.action_space) != (envs[0].observation_space, envs[0].action_space):
            raise EnvironmentFailure(f"{name} gave environments of different spaces.", "Make them all alike.")
    limit = time_limit(envs[0])
    cut = max_episode_steps if limit is None else None
    watch = Watch(timeout, name, on_hang)
    bad, bounds = BadTransitions(num_envs, name), Bounds(observation, name)
    slots = [
        EnvInstance(
            one, SeedStream(name, index, (seed, stream), cut or math.inf), (observation, action), (watch, bad, bounds)
        )
        for index, one in enumerate(envs)
    ]
    ending = f"{limit} steps" if limit else f"none; cut at {cut} steps" if cut else "none"
    return GymnasiumEnv(slots, ending)


class SeedStream:
    """Which environment this is, and where its seeds come from."""

    def __init__(self, name: str, index: int, seeds: tuple[int, int], cut: float) -> None:
        self.name, self.index, self.seeds, self.cut = name, index, seeds, cut

    def episode_seed(self, episode: int) -> int:
        """A 31-bit seed (some environments take no more), a function of seed, stream, environment and episode."""
        seed, stream = self.seeds
        sequence = np.random.SeedSequence(seed, spawn_key=(stream, self.index, episode))
        return int(sequence.generate_state(1)[0] >> 1)


class EnvInstance:
    """One environment and its open episode."""

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        place: SeedStream,
        spaces: tuple[ObservationSpace, ActionSpace],
        watches: tuple[Watch, BadTransitions, Bounds],
    ) -> None:
        self.env, self.place = env, place
        self.observation, self.action = spaces
        self._watch, self._bad, self._bounds = watches
        self._clock = SimulationClock(env)
        self._calls = 0
        self.episode = -1
        self.length = 0
        self.total = 0.0
        self.obs = np.zeros(self.observation.size, np.float32)
        self._actions = np.zeros((64, self.action.size), np.float32)

    def begin(self, episode: int) -> Floats:
        """Reset into an episode, or the next whose first observation is good: [o]."""
        while True:
            self.episode, self.length, self.total = episode, 0, 0.0
            seed = self.place.episode_seed(episode)
            result = self._call(lambda: self.env.reset(seed=seed))
            if not isinstance(result, tuple) or len(result) != 2:
                raise self._malformed("reset", "(observation, info)")
            obs = np.empty(self.observation.size, np.float32)
            wrong = read_observation(result[0], self.observation, obs)
            if not wrong:
                self._bounds.look(obs)
                self._clock.start()
                self.obs = obs
                return obs
            self._bad.bad(self.place.index, wrong)
            episode += 1

    def advance(self, action: Floats, raw: Any, out: Floats) -> tuple[float, bool, bool, bool]:
        """Take an action [a], given to the environment as raw; write the successor into out [o].

        Returns reward, terminated, truncated and valid. After a bad transition out is the last good observation.
        """
        self._calls += 1
        watch = self._watch
        watch.call = self._calls
        try:
            result = self.env.step(raw)
        except Exception as error:
            raise self._raised(error) from error
        finally:
            watch.call = 0
        if not isinstance(result, tuple) or len(result) != 5:
            raise self._malformed("step", "(observation, reward, terminated, truncated, info)")
        value, reward, terminated, truncated, _ = result
        wrong = read_observation(value, self.observation, out) or self._clock.was_reset()
        number = read_reward(reward)
        if number != number:
            wrong = wrong or f"the reward is {reward!r:.60}"
        if not (is_flag(terminated) and is_flag(truncated)):
            wrong = wrong or "terminated or truncated is not a bool"
        if wrong:
            out[:] = self.obs
            self._bad.bad(self.place.index, wrong)
            return 0.0, False, True, False
        self._bounds.look(out)
        self._bad.good(self.place.index)
        self._record(action, number)
        self.obs = out
        return number, bool(terminated), bool(truncated) or self.length >= self.place.cut, True

    def progress(self) -> Progress:
        """Enough to rebuild the open episode."""
        kept = self.length if self.length <= RECORDED else 0
        return Progress(self.episode, self.length, self._actions[:kept].copy(), self.obs.copy(), self.total)

    def restore(self, progress: Progress) -> bool:
        """Replay an open episode; where that does not end in the same observation, begin the next one."""
        obs = self.begin(progress.episode)
        exact = self.episode == progress.episode and len(progress.actions) == progress.length
        for action in progress.actions if exact else ():
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

    def raw(self, action: Floats) -> Any:
        """The environment's own action for [a]."""
        return self.action.native(action)

    def _record(self, action: Floats, reward: float) -> None:
        """Add a good step to the open episode."""
        length = self.length
        if length < RECORDED:
            if length == len(self._actions):
                self._actions = np.concatenate([self._actions, np.zeros_like(self._actions)])
            self._actions[length] = action
        self.length = length + 1
        self.total += reward

    def _call(self, function: Callable[[], Any]) -> Any:
        """Call the environment under the watch."""
        self._calls += 1
        self._watch.call = self._calls
        try:
            return function()
        except Exception as error:
            raise self._raised(error) from error
        finally:
            self._watch.call = 0

    def _raised(self, error: Exception) -> EnvironmentFailure:
        where = f"{self.place.name} (environment {self.place.index}, episode {self.episode}, step {self.length})"
        seed = self.place.episode_seed(self.episode)
        what = f"{where} raised {type(error).__name__}: {error}."
        return EnvironmentFailure(what, f"Fix the environment; reset(seed={seed}) begins that episode.")

    def _malformed(self, method: str, wanted: str) -> EnvironmentFailure:
        what = f"{self.place.name} returned something else than {wanted} from {method}."
        return EnvironmentFailure(what, "Follow the gymnasium.Env interface; old Gym returned fewer values.")


class GymnasiumEnv(HostEnv):
    """E Gymnasium environments, stepped in turn. Build it with make."""

    def __init__(self, slots: Sequence[EnvInstance], ending: str) -> None:
        self._slots = list(slots)
        self._ending = ending
        first = self._slots[0]
        self.num_envs = len(self._slots)
        self.spec = Spec(first.observation.size, first.action.size, first.action.squash)
        self.action_space = first.action
        self._watch, self._bad = first._watch, first._bad
        self._finished: list[Episode] = []

    @property
    def bad(self) -> int:
        return self._bad.total

    def reset(self) -> Floats:
        return np.stack([slot.begin(slot.episode + 1) for slot in self._slots])

    def step(self, action: Floats) -> Step:
        if not finite(action):
            raise NumericHalt("The policy gave an action that is not finite.", "Lower the learning rate.")
        count = self.num_envs
        raw = self.action_space.native(action)
        next_obs, obs = np.empty((2, count, self.spec.obs_dim), np.float32)
        reward = np.empty(count, np.float32)
        terminated, truncated, valid = np.empty((3, count), np.bool_)
        for i, slot in enumerate(self._slots):
            out = next_obs[i]
            reward[i], end, cut, valid[i] = slot.advance(action[i], raw[i], out)
            terminated[i], truncated[i] = end, cut
            if end or cut:
                if slot.length:
                    self._finished.append(Episode(i, slot.episode, slot.total, slot.length))
                out = slot.begin(slot.episode + 1)
            obs[i] = out
        return Step(next_obs, reward, terminated, truncated, valid, obs)

    def finished(self) -> list[Episode]:
        done, self._finished = self._finished, []
        return done

    def progress(self) -> list[Progress]:
        return [slot.progress() for slot in self._slots]

    def restore(self, progress: Sequence[Progress]) -> tuple[Floats, list[bool]]:
        exact = [slot.restore(one) for slot, one in zip(self._slots, progress, strict=True)]
        return np.stack([slot.obs for slot in self._slots]), exact

    def describe(self) -> dict[str, str]:
        return {
            "environment": self._slots[0].place.name,
            "observation": str(self.spec.obs_dim),
            "action": self.action_space.describe(),
            "time limit": self._ending,
        }

    def counters(self) -> Counters:
        return self._bad.counters()

    def load_counters(self, counters: Mapping[str, Any]) -> None:
        self._bad.load(counters)

    def close(self) -> None:
        self._watch.close()
        for slot in self._slots:
            slot.env.close()
