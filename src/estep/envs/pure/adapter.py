"""A pure environment as a Gymnasium environment on the host, and the table of pure environments by their ids."""

from __future__ import annotations

import functools as ft
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from estep.core.types import to_one_hot
from estep.envs.pure.classic import MAKERS
from estep.envs.pure.environment import PureEnv
from estep.envs.pure.ids import register_id
from estep.envs.tasks.sources import Task
from estep.settings.references import MJX, env_text

_OWN: dict[str, PureEnv] = {}


def register(env: PureEnv) -> None:
    """Make a pure environment of one's own known by its name, to `gymnasium.make` and to `--env`.

    Called in a module, `estep train sac --env module:NAME --population 64` trains on it.
    """
    _OWN[env.name] = env
    register_id(env.name, env.limit)


def find(source: Any) -> PureEnv | None:
    """The pure environment of an id, or a PureEnv itself; None if it is something else. Its module must be imported.

    Raises:
        UsageError: it needs MJX, which is not installed.
    """
    if isinstance(source, PureEnv):
        return source
    if not isinstance(source, str) or env_text(source).arguments:  # a pure environment takes none: `make` says so
        return None
    name = env_text(source).id.rpartition(":")[2]
    if name.startswith(MJX):
        from estep.envs.pure import mjx

        return mjx.make(name.removeprefix(MJX))
    return MAKERS[name]() if name in MAKERS else _OWN.get(name)


def make(env_id: str) -> gymnasium.Env[Any, Any]:
    """The environment of an id, for `gymnasium.make`, which adds its time limit."""
    env = find(env_id)
    if env is None:
        raise KeyError(f"there is no pure environment {env_id}")
    return OnHost(env)


def on_host(env: PureEnv) -> gymnasium.Env[Any, Any]:
    """A pure environment on the host, with its time limit."""
    return TimeLimit(OnHost(env), env.limit)


def hosted(envs: Any) -> Any:
    """The environment of a run or its tasks, as `read_envs` has them, with a function in place of each `PureEnv`."""
    if isinstance(envs, PureEnv):
        return ft.partial(on_host, envs)
    if isinstance(envs, tuple):
        return tuple(Task(task.name, hosted(task.source)) for task in envs)
    return envs


@ft.cache
def _compiled(env: PureEnv) -> tuple[Callable[..., Any], ...]:
    return jax.jit(env.reset), jax.jit(env.observe), jax.jit(env.step)


class OnHost(gymnasium.Env[Any, Any]):
    """A pure environment with the interface of Gymnasium. It is computed on the CPU."""

    def __init__(self, env: PureEnv) -> None:
        self.env_name, factors = env.name, env.spec.factors
        self.observation_space = spaces.Box(-np.inf, np.inf, (env.spec.obs_dim,), np.float32)
        self.action_space: Any = spaces.Box(-1.0, 1.0, (env.spec.action_dim,), np.float32)
        if factors:
            self.action_space = spaces.MultiDiscrete(list(factors)) if len(factors) > 1 else spaces.Discrete(factors[0])
        self._factors, self._functions = factors, _compiled(env)
        self._device = jax.local_devices(backend="cpu")[0]
        self._state: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        gymnasium.Env.reset(self, seed=seed)
        number = int(self.np_random.integers(2**31)) if seed is None else seed
        self._state = self._functions[0](jax.device_put(jax.random.key(number), self._device))
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        point = np.asarray(action, np.float32)
        if self._factors:
            point = to_one_hot(point.reshape(1, -1), self._factors)[0]
        self._state, reward, terminated = self._functions[2](self._state, jax.device_put(point, self._device))
        return self._observation(), float(reward), bool(terminated), False, {}

    def save_state(self) -> Any:
        """The state, which `load_state` takes."""
        return self._state

    def load_state(self, state: Any) -> None:
        """Go on from a state of `save_state`."""
        self._state = state

    def _observation(self) -> npt.NDArray[np.float32]:
        return np.array(self._functions[1](self._state), np.float32)
