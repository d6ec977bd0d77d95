"""Gymnasium environments for the training loop. They are stepped one after the other; estep resets and seeds them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from estep.core.types import Floats, Spec
from estep.envs.actions import action_space
from estep.envs.base import Counters, Episode, HostEnv, Progress, Step, names_of
from estep.envs.build import TRAIN, Source, build, close, env_name, source_name, time_limit
from estep.envs.elsewhere.slot import Elsewhere, seed_all, start
from estep.envs.guard.group import Group, check_again
from estep.envs.guard.group import Options as Options
from estep.envs.guard.watch import Watch
from estep.envs.instance import EnvInstance, SeedStream
from estep.envs.observations import ObservationSpace, observation_space
from estep.envs.validation import (
    BadTransitions,
    Bounds,
    SimulationClock,
    finite,
)
from estep.errors import EnvironmentFailure, NumericHalt

NO_LIMIT = "no TimeLimit wrapper"
UNREPEATABLE = (
    "EnvPool cannot begin a given episode again, so a resumed run truncates its unfinished episodes, begins new ones, "
    "and differs from a run that was not stopped"
)


def make(env: Source, *, num_envs: int = 1, name: str | None = None, **options: Any) -> GymnasiumEnv:
    """Make environments for the training loop.

    Args:
        env: a Gymnasium id (`module:Id` and `module:Class` too), one instance, or a function without arguments that
            makes one.
        num_envs: how many environments.
        name: their name; None takes the id as it is given, or the class.
        **options: the fields of `Options`.

    Raises:
        UsageError: the id or its module is unknown (exit code 2).
        EnvironmentFailure: the environment raised, or estep cannot train on it (exit code 5).
    """
    chosen = Options(**options)
    check_again(env, chosen)
    watch = chosen.watch(name or source_name(env))
    made = build(env, num_envs, watch, chosen.pool)
    # An instance belongs to the user, who may go on with it after the run.
    name = name or (env if isinstance(env, str) else None)
    return wrap(made, name, chosen, closes=made[0] is not env, source=env, watch=watch)


def wrap(
    envs: Sequence[gymnasium.Env[Any, Any]],
    name: str | None,
    options: Options,
    *,
    closes: bool = True,
    source: Source | None = None,
    watch: Watch | None = None,
) -> GymnasiumEnv:
    """Environments that exist, for the training loop.

    Args:
        envs: the environments, of one kind.
        name: their name; None takes the id or the class of the first.
        options: how they are seeded, limited and watched.
        closes: whether `close` closes them.
        source: makes one anew after a failure; None where that is never done.
        watch: measures how long their calls take; None makes one.

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
    watch = watch or options.watch(name)
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
    group = Group(instances, watch, bad, ending, closes)
    return GymnasiumEnv([group if source is None else group._replace(source=source, options=options)])


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
        self._elsewhere = any(isinstance(instance.env, Elsewhere) for instance in self._instances)

    @property
    def bad(self) -> int:
        return sum(group.bad.total for group in self.groups)

    @property
    def retries(self) -> int:
        return self.groups[0].retries

    @property
    def name(self) -> str:
        return self._name

    @property
    def unrepeatable(self) -> str:
        found = [env for env in self.envs if isinstance(env, Elsewhere) and not env.replays]
        return UNREPEATABLE if found else ""

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
        self._begin_all(numbers)
        return np.stack([self._begin(i, number) for i, number in enumerate(numbers)])

    def seed_of_episode(self, episode: int) -> int:
        return self._instances[0].stream.episode_seed(episode)

    def start_from(self, seed: int, env: int = 0) -> Floats:
        seed_all(self.envs, [seed] * self.num_envs)
        return self._instances[env].reset(seed)[0]

    def step(self, action: Floats) -> Step:
        if not finite(action):
            raise NumericHalt("The policy gave an action that is not finite.", "Give a smaller --learning-rate.")
        count = self.num_envs
        raw = self.action_space.native(action)
        if self._elsewhere:
            pairs = zip(self._instances, raw, strict=True)
            start(one.prepare(each) for one, each in pairs if isinstance(one.env, Elsewhere))
        next_obs, obs = np.empty((2, count, self.spec.obs_dim), np.float32)
        reward = np.empty(count, np.float32)
        terminated, truncated, valid = np.empty((3, count), np.bool_)
        for i, instance in enumerate(self._instances):
            out, again = next_obs[i], False
            try:
                reward[i], end, cut, valid[i] = instance.advance(action[i], raw[i], out)
            except EnvironmentFailure as error:
                self._group(i).renew(instance, error)
                out[:], reward[i], end, cut, valid[i] = instance.obs, 0.0, False, True, False
                again = instance.stream.seeds[1] != TRAIN  # half an episode is no evaluation
            terminated[i], truncated[i] = end, cut
            if end or cut:
                if instance.length and not again:
                    record = instance.episode, instance.total, instance.length, instance.cut, instance.success
                    self._finished.append(Episode(i, *record, instance.stream.name if self.tasks else ""))
                out = self._begin(i, instance.episode + (not again))
            obs[i] = out
        return Step(next_obs, reward, terminated, truncated, valid, obs)

    def finished(self) -> list[Episode]:
        done, self._finished = self._finished, []
        return done

    def progress(self) -> list[Progress]:
        return [instance.progress() for instance in self._instances]

    def _begin_all(self, episodes: Sequence[int]) -> None:
        """Say which episodes begin now, where environments must know that before their resets."""
        if not self._elsewhere:
            return
        seeds = [one.stream.episode_seed(number) for one, number in zip(self._instances, episodes, strict=True)]
        seed_all(self.envs, seeds)

    def _group(self, i: int) -> Group:
        """The group of an environment."""
        return self.groups[i // self.per_task]

    def _begin(self, i: int, episode: int) -> Floats:
        """Begin an episode of an environment, which is made anew while it fails and that is allowed."""
        while True:
            try:
                return self._instances[i].begin(episode)
            except EnvironmentFailure as error:
                self._group(i).renew(self._instances[i], error)

    def _restore(self, i: int, progress: Progress) -> bool:
        """Replay an unfinished episode, or begin the next one in an environment that is made anew."""
        try:
            return self._instances[i].restore(progress)
        except EnvironmentFailure as error:
            self._group(i).renew(self._instances[i], error)
            self._begin(i, progress.episode + 1)
            return False

    def restore(self, progress: Sequence[Progress]) -> tuple[Floats, list[bool]]:
        if len(progress) != self.num_envs:
            raise ValueError(f"there are {self.num_envs} environments, not {len(progress)}")
        self._begin_all([one.episode + 1 for one in progress])
        exact = [self._restore(i, one) for i, one in enumerate(progress)]
        return np.stack([instance.obs for instance in self._instances]), exact

    def describe(self) -> dict[str, str]:
        return {
            "environment": self.name,
            "observation": self.observation_space.describe() + (f" and {len(self.tasks)} tasks" if self.tasks else ""),
            "action": self.action_space.describe(),
            "time limit": ", ".join(dict.fromkeys(group.ending for group in self.groups)),
        }

    def counters(self) -> Counters:
        again = {"retries": [self.retries]} if self.retries else {}
        if not self.tasks:
            return self.groups[0].bad.counters() | again
        own = {f"{i}.{key}": n for i, group in enumerate(self.groups) for key, n in group.bad.counters().items()}
        return own | again

    def load_counters(self, counters: Mapping[str, Any]) -> None:
        retries = self.groups[0].options.retries
        if retries is not None:
            retries.total = int(counters.get("retries", [0])[0])
        for i, group in enumerate(self.groups):
            own = {key.removeprefix(f"{i}."): n for key, n in counters.items() if key.startswith(f"{i}.")}
            group.bad.load(own if self.tasks else counters)

    def before_hang(self, function: Callable[[], None]) -> None:
        for group in self.groups:
            group.watch.before = function

    def close(self) -> None:
        closing = [(group, instance.env) for group in self.groups if group.closes for instance in group.instances]
        for group, env in closing if self._open else []:
            close(env, group.name, group.watch)
        for group in self.groups:
            group.watch.close()
        self._open = False
