"""Gymnasium environments for the training loop. They are stepped one after the other; estep resets and seeds them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from estep.core.types import Floats, Spec
from estep.envs.actions import action_space
from estep.envs.base import Counters, Episode, HostEnv, Progress, Step, names_of
from estep.envs.build import TRAIN, Source, build, env_name, time_limit
from estep.envs.instance import EnvInstance, SeedStream
from estep.envs.observations import ObservationSpace, observation_space
from estep.envs.validation import (
    BadTransitions,
    Bounds,
    SimulationClock,
    finite,
)
from estep.envs.watch import Watch, end_process
from estep.errors import EnvironmentFailure, NumericHalt, describe

NO_LIMIT = "no TimeLimit wrapper"


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


def make(env: Source, *, num_envs: int = 1, name: str | None = None, **options: Any) -> GymnasiumEnv:
    """Make environments for the training loop.

    Args:
        env: a Gymnasium id (`module:Id` too), one instance, or a function without arguments that makes one.
        num_envs: how many environments.
        name: their name; None takes the id as it is given, or the class.
        **options: the fields of `Options`.

    Raises:
        UsageError: the id or its module is unknown (exit code 2).
        EnvironmentFailure: the environment raised, or estep cannot train on it (exit code 5).
    """
    made = build(env, num_envs)
    # An instance belongs to the user, who may go on with it after the run.
    name = name or (env if isinstance(env, str) else None)
    return wrap(made, name, Options(**options), closes=made[0] is not env)


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
    return GymnasiumEnv([Group(instances, watch, bad, ending, closes)])


class Group(NamedTuple):
    """The environments of one task, or those of a run with one environment."""

    instances: Sequence[EnvInstance]
    watch: Watch
    bad: BadTransitions
    ending: str
    """What ends an episode, in words."""
    closes: bool
    """Whether `close` closes them."""

    @property
    def name(self) -> str:
        """The task's name, or the environment's."""
        return self.instances[0].stream.name


class GymnasiumEnv(HostEnv):
    """E Gymnasium environments, stepped one after the other. `make` builds it, and for tasks `tasks.several`."""

    def __init__(self, groups: Sequence[Group], name: str = "", tasks: Mapping[str, ObservationSpace] | None = None):
        """Take environments that exist.

        Args:
            groups: those of each task, equally many; or one group without tasks.
            name: the name of all of them; empty takes that of the first group.
            tasks: the observations of each task of the run, by its name; None without tasks.
        """
        self.groups = list(groups)
        self._instances = [instance for group in groups for instance in group.instances]
        self._name, self._open = name or groups[0].name, True
        self.tasks = tasks or {}
        first = self._instances[0]
        self.num_envs = len(self._instances)
        self.action_space, self.observation_space = first.action, first.observation
        names = names_of(first.observation)
        self.spec = Spec(first.obs.size, first.action.size, first.action.squash, len(self.tasks), names)
        self._finished: list[Episode] = []

    @property
    def bad(self) -> int:
        return sum(group.bad.total for group in self.groups)

    @property
    def name(self) -> str:
        return self._name

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

    def start_from(self, seed: int, env: int = 0) -> Floats:
        return self._instances[env].reset(seed)[0]

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
                    record = instance.episode, instance.total, instance.length, instance.cut, instance.success
                    self._finished.append(Episode(i, *record, instance.stream.name if self.tasks else ""))
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
            "observation": self.observation_space.describe() + (f" and {len(self.tasks)} tasks" if self.tasks else ""),
            "action": self.action_space.describe(),
            "time limit": ", ".join(dict.fromkeys(group.ending for group in self.groups)),
        }

    def counters(self) -> Counters:
        if not self.tasks:
            return self.groups[0].bad.counters()
        return {f"{i}.{key}": n for i, group in enumerate(self.groups) for key, n in group.bad.counters().items()}

    def load_counters(self, counters: Mapping[str, Any]) -> None:
        for i, group in enumerate(self.groups):
            own = {key.removeprefix(f"{i}."): n for key, n in counters.items() if key.startswith(f"{i}.")}
            group.bad.load(own if self.tasks else counters)

    def before_hang(self, function: Callable[[], None]) -> None:
        for group in self.groups:
            group.watch.before = function

    def close(self) -> None:
        closing = [(group, instance.env) for group in self.groups if group.closes for instance in group.instances]
        for group in self.groups:
            group.watch.close()
        for group, env in closing if self._open else []:
            try:
                env.close()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # nothing depends on it any more
                warnings.warn(f"{group.name}: close() raised {describe(error)}.", RuntimeWarning, stacklevel=2)
        self._open = False
