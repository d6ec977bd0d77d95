"""`envpool:ID`: environments of the package EnvPool, which steps them in C++ threads.

EnvPool resets an environment whose episode has ended by the next step, whose action it ignores. estep resets it by hand
before that step, so that no such step exists. An environment takes its seed only when it is made: the episodes that
follow one another in it are a function of that seed, and one of them alone cannot be begun again.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from estep.envs.elsewhere.layout import OUTCOMES
from estep.envs.elsewhere.slot import Elsewhere
from estep.errors import EnvironmentFailure, UsageError, describe, unknown
from estep.settings.references import ENVPOOL, EnvText


def make(text: EnvText, count: int) -> list[gymnasium.Env[Any, Any]]:
    """Make environments that one pool steps.

    Raises:
        UsageError: EnvPool is not installed, or has no such environment, or it does not take these arguments.
    """
    name = text.id.removeprefix(ENVPOOL)
    try:
        import envpool
    except ImportError as error:
        what = f"envpool:{name} needs the package EnvPool, which cannot be imported: {error}."
        raise UsageError(what, "Run pip install 'estep[envpool]', or give an environment of Gymnasium.") from error
    known = envpool.list_all_envs()
    if name not in known:
        listing = "Give an id of envpool.list_all_envs()."
        raise unknown("environment", f"envpool:{name}", [f"envpool:{one}" for one in known], listing)
    pool = Threads(name, text.arguments, count)
    return [ThreadEnv(pool, row) for row in range(count)]


class Threads:
    """The environments of one pool. They are made when the seeds of their first episodes are known."""

    def __init__(self, name: str, arguments: Mapping[str, Any], count: int) -> None:
        import envpool

        self.name, self.arguments, self.count = name, dict(arguments), count
        self._pool: Any = None
        self._prepared: dict[int, Any] = {}
        self._stepping: list[int] = []
        self._results: dict[int, Any] = {}
        self._first: dict[int, Any] = {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of bounds whose precision is lowered
                spec = envpool.make_spec(name, **self.arguments)
                self.spaces = spec.gymnasium_observation_space, spec.gymnasium_action_space
        except Exception as error:
            what = f"envpool:{name} cannot be made with {self.arguments or 'its defaults'}: {describe(error)}."
            raise UsageError(what, "Give arguments that the environment takes.") from error
        limit = int(getattr(spec.config, "max_episode_steps", 0))
        self.limit = limit if 0 < limit < 2**31 - 1 else None

    @property
    def made(self) -> bool:
        """Whether the environments exist."""
        return self._pool is not None

    def seed(self, seeds: Sequence[int]) -> None:
        """Make all environments, with these seeds. Each has then begun its first episode."""
        import envpool

        threads = min(self.count, cores())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._pool = envpool.make(
                self.name,
                env_type="gymnasium",
                num_envs=self.count,
                seed=list(seeds),
                num_threads=threads,
                **self.arguments,
            )
            obs, _ = self._pool.reset()
        self._first = {row: part(obs, row) for row in range(self.count)}
        self._prepared, self._stepping, self._results = {}, [], {}

    def prepare(self, row: int, action: Any) -> None:
        """Note the action of an environment."""
        self._prepared[row] = action

    def start(self) -> None:
        """Begin the steps that were prepared."""
        rows, actions = list(self._prepared), np.stack(list(self._prepared.values()))
        self._pool.send(actions, env_id=np.asarray(rows, np.int32))
        self._prepared, self._stepping = {}, rows

    def is_under_way(self, row: int) -> bool:
        """Whether a step of an environment has begun, whose result was not taken."""
        return row in self._stepping or row in self._results

    def result(self, row: int) -> Any:
        """What the step of an environment returned."""
        self._wait()
        return self._results.pop(row)

    def first(self, row: int) -> Any:
        """The first observation of a new episode of an environment."""
        self._wait()
        if row not in self._first:
            obs, _ = self._pool.reset(env_id=np.asarray([row], np.int32))
            return part(obs, 0)
        return self._first.pop(row)

    def _wait(self) -> None:
        """Wait for the steps that have begun. Their results come in any order."""
        if not self._stepping:
            return
        self._stepping = []
        obs, reward, terminated, truncated, info = self._pool.recv()
        told = [name for name in OUTCOMES if name in info]
        for i, row in enumerate(info["env_id"].tolist()):
            outcome = {name: float(info[name][i]) for name in told}
            self._results[row] = part(obs, i), float(reward[i]), bool(terminated[i]), bool(truncated[i]), outcome


class ThreadEnv(Elsewhere):
    """One environment of a pool."""

    replays = False

    def __init__(self, pool: Threads, row: int) -> None:
        self._pool, self._row = pool, row
        self.observation_space, self.action_space = pool.spaces
        self.limit, self.spec = pool.limit, EnvSpec(f"envpool/{pool.name}")

    def prepare(self, action: Any, seed: int) -> Threads:
        self._pool.prepare(self._row, action)
        return self._pool

    def step(self, action: Any) -> Any:
        if not self._pool.is_under_way(self._row):
            self.prepare(action, -1).start()
        return self._pool.result(self._row)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if not self._pool.made:  # it is asked alone, and not with all others
            self._pool.seed([(seed or 0) + row for row in range(self._pool.count)])
        return self._pool.first(self._row), {}

    def batch(self) -> Threads:
        return self._pool

    def again(self) -> ThreadEnv:
        what = f"envpool:{self._pool.name} cannot be made anew alone."
        raise EnvironmentFailure(what, "Leave --retry-env out, and look at why it failed.")


def part(obs: Any, row: int) -> Any:
    """The observation of one environment out of those of a batch."""
    return {key: part(one, row) for key, one in obs.items()} if isinstance(obs, dict) else obs[row]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
