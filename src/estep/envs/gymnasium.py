"""Gymnasium environments for the training loop. They are stepped one after the other; estep resets and seeds them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from estep.core.types import Floats, Spec
from estep.envs.base import Counters, Episode, HostEnv, Progress, Step
from estep.envs.build import TRAIN, Source, build, env_name, time_limit
from estep.envs.spaces import ActionSpace, ObservationSpace, action_space, observation_space
from estep.envs.validation import (
    BadTransitions,
    Bounds,
    SimulationClock,
    finite,
    is_flag,
    read_observation,
    read_reward,
)
from estep.envs.watch import Watch, end_process
from estep.errors import EnvironmentFailure, NumericHalt

NO_LIMIT = "no TimeLimit wrapper"
RECORDED = 100_000
"""Largest number of steps of an unfinished episode that are recorded for an exact restore."""


class Options(NamedTuple):
    """How environments are seeded, limited and watched."""

    seed: int = 0
    stream: int = TRAIN
    """With the seed it determines the seed of every episode."""
    max_episode_steps: int | None = None
    """Largest length of an episode, for environments without a TimeLimit."""
    timeout: float = 60.0
    """Seconds that one call of the environment may take; 0 means no limit."""
    on_hang: Callable[[str], None] = end_process
    """Called with a message, from another thread, when a call takes longer."""
    detect_resets: bool = True
    """Whether a step in which MuJoCo reset itself is a bad transition."""


def make(env: Source, *, num_envs: int = 1, **options: Any) -> GymnasiumEnv:
    """Make environments for the training loop.

    Args:
        env: a Gymnasium id (`module:Id` too), one instance, or a function without arguments that makes one.
        num_envs: how many environments.
        **options: the fields of `Options`.

    Raises:
        UsageError: the id or its module is unknown (exit code 2).
        EnvironmentFailure: the environment raised, or estep cannot train on it (exit code 5).
    """
    made = build(env, num_envs)
    # An instance belongs to the user, who may go on with it after the run.
    return wrap(made, env if isinstance(env, str) else None, Options(**options), closes=made[0] is not env)


def wrap(
    envs: Sequence[gymnasium.Env[Any, Any]], name: str | None, options: Options, *, closes: bool = True
) -> GymnasiumEnv:
    """Environments that exist, for the training loop.

    Args:
        envs: the environments, of one kind.
        name: their name; None takes the id or the class of the first.
        options: how they are seeded, limited and watched.
        closes: whether `close` closes them.

    Raises:
        EnvironmentFailure: estep cannot train on them.
    """
    name = name or env_name(envs[0])
    observation, action = observation_space(envs[0].observation_space, name), action_space(envs[0].action_space, name)
    for other in envs[1:]:
        if (other.observation_space, other.action_space) != (envs[0].observation_space, envs[0].action_space):
            what = f"The environments of {name} have different spaces."
            raise EnvironmentFailure(what, "Give all of them the same observation space and the same action space.")
    limit = time_limit(envs[0])
    cut = options.max_episode_steps if limit is None else None
    watch = Watch(options.timeout, name, options.on_hang)
    bad, bounds = BadTransitions(len(envs), name), Bounds(observation, name)
    seeds = options.seed, options.stream
    instances = [
        EnvInstance(
            one,
            SeedStream(name, index, seeds, cut or math.inf),
            (observation, action),
            (watch, bad, bounds, SimulationClock(one, options.detect_resets)),
        )
        for index, one in enumerate(envs)
    ]
    ending = f"{limit} steps" if limit else f"no TimeLimit wrapper; cut at {cut} steps" if cut else NO_LIMIT
    return GymnasiumEnv(instances, ending, closes)


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
        self._errors = np.geterr()
        self.episode = -1
        self.length = 0
        self.total = 0.0
        self.cut = False
        """Whether estep ended the last episode, because the environment has no TimeLimit and did not end it."""
        self.obs = np.zeros(self.observation.size, np.float32)
        self._actions = np.zeros((64, self.action.size), np.float32)

    def begin(self, episode: int) -> Floats:
        """Begin an episode, or the next episode whose first observation is good. Returns that observation [o]."""
        while True:
            self.episode, self.length, self.total = episode, 0, 0.0
            obs, wrong = self.reset(self.stream.episode_seed(episode))
            if not wrong:
                self._bounds.check(obs)
                self._clock.start()
                self.obs = obs
                return obs
            self._bad.bad(self.stream.index, wrong)
            episode += 1

    def reset(self, seed: int) -> tuple[Floats, str]:
        """Reset the environment with a seed. Returns its observation [o], and what is wrong with it or ""."""
        result = self._call(self.env.reset, seed=seed)
        if not isinstance(result, tuple) or len(result) != 2:
            raise self._malformed("reset", "(observation, info)")
        obs = np.empty(self.observation.size, np.float32)
        return obs, read_observation(result[0], self.observation, obs)

    def advance(self, action: Floats, raw: Any, out: Floats) -> tuple[float, bool, bool, bool]:
        """Take one step.

        Args:
            action: [a], in [-1, 1] or one-hot.
            raw: the same action as the environment takes it.
            out: [o], where the next observation is written; after a bad transition, the last good observation.

        Returns:
            Reward, terminated, truncated and valid.
        """
        result = self._call(self.env.step, raw)
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
            self._bad.bad(self.stream.index, wrong)
            return 0.0, False, True, False
        self._bounds.check(out)
        self._bad.good(self.stream.index)
        self._record(action, number)
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

    def continue_at(self, obs: Floats, length: int) -> None:
        """Go on from a state that was put into the environment: its observation [o], and the steps before it."""
        missing = min(length, RECORDED) - len(self._actions)
        if missing > 0:
            self._actions = np.concatenate([self._actions, np.zeros((missing, self.action.size), np.float32)])
        self.obs, self.length = obs, length
        self._clock.jump()

    def raw(self, action: Floats) -> Any:
        """The environment's action for an action [a]."""
        return self.action.native(action)

    def _record(self, action: Floats, reward: float) -> None:
        """Add a good step to the unfinished episode."""
        length = self.length
        if length < RECORDED:
            if length == len(self._actions):
                self._actions = np.concatenate([self._actions, np.zeros_like(self._actions)])
            self._actions[length] = action
        self.length = length + 1
        self.total += reward

    def _call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call the environment while the watch measures the time. If a reset or a first step changed how NumPy treats
        errors, that is put back. Later steps are not asked, because asking takes two microseconds."""
        watch = self._watch
        self._calls += 1
        watch.call = self._calls
        try:
            return function(*arguments, **named)
        except (Exception, SystemExit) as error:
            raise self._raised(error) from error
        finally:
            watch.call = 0
            if not self.length and np.geterr() != self._errors:
                np.seterr(**self._errors)

    def _raised(self, error: BaseException) -> EnvironmentFailure:
        where = f"{self.stream.name} (environment {self.stream.index}, episode {self.episode}, step {self.length})"
        seed = self.stream.episode_seed(self.episode)
        what = f"{where} raised {type(error).__name__}: {error}."
        return EnvironmentFailure(what, f"Fix the environment. Its reset(seed={seed}) begins that episode.")

    def _malformed(self, method: str, wanted: str) -> EnvironmentFailure:
        what = f"{self.stream.name} did not return {wanted} from {method}."
        return EnvironmentFailure(what, "Follow the gymnasium.Env interface. The old Gym interface has fewer values.")


class GymnasiumEnv(HostEnv):
    """E Gymnasium environments, stepped one after the other. `make` builds it."""

    def __init__(self, instances: Sequence[EnvInstance], ending: str, closes: bool = True) -> None:
        self._instances = list(instances)
        self._ending, self._closes = ending, closes
        first = self._instances[0]
        self.num_envs = len(self._instances)
        self.spec = Spec(first.observation.size, first.action.size, first.action.squash)
        self.action_space = first.action
        self._watch, self._bad = first._watch, first._bad
        self._finished: list[Episode] = []

    @property
    def bad(self) -> int:
        return self._bad.total

    @property
    def name(self) -> str:
        return self._instances[0].stream.name

    @property
    def instances(self) -> list[EnvInstance]:
        """The environments with their unfinished episodes."""
        return self._instances

    @property
    def envs(self) -> list[gymnasium.Env[Any, Any]]:
        """The environments themselves."""
        return [instance.env for instance in self._instances]

    def reset(self, episode: int | None = None) -> Floats:
        numbers = [one.episode + 1 if episode is None else episode for one in self._instances]
        return np.stack([one.begin(number) for one, number in zip(self._instances, numbers, strict=True)])

    def seed_of_episode(self, episode: int) -> int:
        return self._instances[0].stream.episode_seed(episode)

    def start_from(self, seed: int) -> Floats:
        return self._instances[0].reset(seed)[0]

    def step(self, action: Floats) -> Step:
        if not finite(action):
            raise NumericHalt("The policy gave an action that is not finite.", "Give a smaller --learning-rate.")
        count = self.num_envs
        raw = self.action_space.native(action)
        next_obs, obs = np.empty((2, count, self.spec.obs_dim), np.float32)
        reward = np.empty(count, np.float32)
        terminated, truncated, valid = np.empty((3, count), np.bool_)
        for i, instance in enumerate(self._instances):
            out = next_obs[i]
            reward[i], end, cut, valid[i] = instance.advance(action[i], raw[i], out)
            terminated[i], truncated[i] = end, cut
            if end or cut:
                if instance.length:
                    self._finished.append(Episode(i, instance.episode, instance.total, instance.length, instance.cut))
                out = instance.begin(instance.episode + 1)
            obs[i] = out
        return Step(next_obs, reward, terminated, truncated, valid, obs)

    def finished(self) -> list[Episode]:
        done, self._finished = self._finished, []
        return done

    def progress(self) -> list[Progress]:
        return [instance.progress() for instance in self._instances]

    def restore(self, progress: Sequence[Progress]) -> tuple[Floats, list[bool]]:
        exact = [instance.restore(one) for instance, one in zip(self._instances, progress, strict=True)]
        return np.stack([instance.obs for instance in self._instances]), exact

    def describe(self) -> dict[str, str]:
        return {
            "environment": self.name,
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
        for env in self.envs if self._closes else []:
            try:
                env.close()
            except (Exception, SystemExit) as error:  # nothing depends on it any more
                warnings.warn(
                    f"{self.name}: close() raised {type(error).__name__}: {error}.", RuntimeWarning, stacklevel=2
                )
        self._closes = False
