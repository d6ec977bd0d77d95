"""Puts the states of a simulator back, so that several policies go on from exactly the same state.

A state can be saved and loaded for MuJoCo and for Gymnasium's classic control, under wrappers of Gymnasium that have no
state or only count steps, and under any wrapper that has no attribute of its own. Another environment or wrapper says
that it can by two methods:

    def save_state(self):          # all that `step` depends on, the random generator included; a copy
        return self.position.copy()

    def load_state(self, state):   # the next step is then the same as after `save_state`; `state` is not changed
        self.position = state.copy()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import gymnasium
import numpy as np
import numpy.typing as npt

from estep.core.types import Floats
from estep.envs.base import HostEnv
from estep.envs.build import layers, time_limit
from estep.envs.gymnasium import GymnasiumEnv
from estep.envs.instance import EnvInstance
from estep.envs.validation import finite
from estep.errors import NumericHalt, UsageError

STATELESS = {
    "ClipAction",
    "ClipReward",
    "DtypeObservation",
    "FilterObservation",
    "FlattenObservation",
    "OrderEnforcing",
    "PassiveEnvChecker",
    "RecordEpisodeStatistics",
    "RescaleAction",
    "RescaleObservation",
    "ReshapeObservation",
    "TransformAction",
    "TransformObservation",
    "TransformReward",
}
"""Wrappers of Gymnasium on whose state no observation and no reward depends."""
OF_EVERY_WRAPPER = {"env", "_action_space", "_observation_space", "_metadata", "_cached_spec"}
"""The attributes that every wrapper has from Gymnasium. One that has no others keeps nothing between steps."""
ATTRIBUTES = {
    "gymnasium.wrappers.common.TimeLimit": ("_elapsed_steps",),
    "gymnasium.envs.classic_control.pendulum.PendulumEnv": ("state", "last_u"),
    "gymnasium.envs.classic_control.cartpole.CartPoleEnv": ("state", "steps_beyond_terminated"),
    "gymnasium.envs.classic_control.acrobot.AcrobotEnv": ("state",),
    "gymnasium.envs.classic_control.mountain_car.MountainCarEnv": ("state",),
    "gymnasium.envs.classic_control.continuous_mountain_car.Continuous_MountainCarEnv": ("state",),
}
"""The attributes that are the whole state of a class."""
MUJOCO = ("gymnasium.envs.mujoco.", "estep.envs.tasks.velocity.")
TRIED = 10
"""Number of steps that must be the same after a state is put back."""


@runtime_checkable
class Restorable(Protocol):
    """An environment or a wrapper that says how its state is saved and loaded."""

    def save_state(self) -> Any:
        """A copy of all that `step` depends on."""

    def load_state(self, state: Any) -> None:
        """Continue from a state of `save_state`, which is not changed."""


class Saver(NamedTuple):
    """How the state of one layer is saved and loaded."""

    save: Callable[[], Any]
    load: Callable[[Any], None]


class Saved(NamedTuple):
    """A state of an environment."""

    layers: tuple[Any, ...]
    """The state of each layer that has one."""
    obs: Floats
    """[o]: the observation in this state."""
    length: int
    """Number of steps since the episode began."""


class Moved(NamedTuple):
    """One step from each of n states."""

    states: list[Saved]
    reward: npt.NDArray[np.float64]
    """[n]."""
    terminated: list[bool]
    ended: list[bool]
    """Whether the episode is over, by termination, by a time limit or by a bad transition."""


class Simulator:
    """Environments whose states can be saved, and one of them that steps from any of these states.

    Raises:
        UsageError: a layer of the environment cannot save its state; the message names it.
    """

    def __init__(self, env: HostEnv) -> None:
        if not isinstance(env, GymnasiumEnv):
            raise _no_states(type(env).__name__, env.name)
        self._instances: Sequence[EnvInstance] = env.instances
        self._savers = [savers(instance.env, env.name) for instance in self._instances]
        self.name, self._native = env.name, env.action_space.native
        first = self._instances[0]
        limit = time_limit(first.env)
        self.limit: float = first.stream.cut if limit is None else limit
        """Number of steps after which an episode is cut; infinite if it is never cut."""

    def save(self) -> list[Saved]:
        """The present state of each environment."""
        return [self._save(i) for i in range(len(self._instances))]

    def step(self, states: Sequence[Saved], action: Floats) -> Moved:
        """Take one step from each of n states. The states do not change.

        Args:
            states: n states.
            action: [n, a], in [-1, 1].

        Raises:
            NumericHalt: an action is not finite.
            EnvironmentFailure: the environment raised.
        """
        if not finite(action):
            raise NumericHalt("The policy gave an action that is not finite.", "Inspect another checkpoint.")
        raw = self._native(action)
        after, reward = [], np.zeros(len(states))
        terminated, ended = [], []
        for i, state in enumerate(states):
            self._load(state)
            reward[i], end, cut, _ = self._advance(action[i], raw[i])
            after.append(self._save(0))
            terminated.append(end)
            ended.append(end or cut)
        return Moved(after, reward, terminated, ended)

    def check_exact(self, state: Saved, size: int) -> None:
        """Check that steps after `load` are those without `load`: that no part of the state is missing.

        Args:
            state: where to start.
            size: a, the size of an action.

        Raises:
            UsageError: they differ, or a layer cannot save its state.
        """
        savers(self._instances[0].env, self.name)  # again: a wrapper may set its first attribute in `reset` or `step`
        actions = np.random.default_rng(0).uniform(-1.0, 1.0, (TRIED, 1, size)).astype(np.float32)
        self._load(state)
        straight = []
        for action in actions:
            reward, end, cut, _ = self._advance(action[0], self._native(action)[0])
            straight.append((reward, self._instances[0].obs.tobytes()))
            if end or cut:
                break
        for action, expected in zip(actions, straight, strict=False):
            moved = self.step([state], action)
            state = moved.states[0]
            if (float(moved.reward[0]), state.obs.tobytes()) != expected:
                what = f"{self.name} does not continue in the same way after its state is put back."
                fix = "Let save_state and load_state include all that step depends on, the random generator too."
                raise UsageError(what, fix)

    def _save(self, i: int) -> Saved:
        instance = self._instances[i]
        states = tuple([instance.call(saver.save) for saver in self._savers[i]])
        return Saved(states, instance.obs, instance.length)

    def _load(self, state: Saved) -> None:
        for saver, layer in zip(self._savers[0], state.layers, strict=True):
            self._instances[0].call(saver.load, layer)
        self._instances[0].continue_at(state.obs, state.length)

    def _advance(self, action: Floats, raw: Any) -> tuple[float, bool, bool, bool]:
        instance = self._instances[0]
        return instance.advance(action, raw, np.empty_like(instance.obs))


def savers(env: gymnasium.Env[Any, Any], name: str) -> list[Saver]:
    """How the state of each layer of an environment is saved, from the outermost.

    Raises:
        UsageError: a layer cannot save its state; the message names it.
    """
    found: list[Saver] = []
    for layer in layers(env):
        kind = f"{type(layer).__module__}.{type(layer).__qualname__}"
        if isinstance(layer, Restorable):
            found.append(Saver(layer.save_state, layer.load_state))
        elif kind in ATTRIBUTES:
            found.append(_attributes(layer, ATTRIBUTES[kind]))
        elif kind.startswith(MUJOCO):
            found.append(_mujoco(layer))
        elif not _stateless(layer):
            raise _no_states(type(layer).__name__, name)
    return found


def _stateless(layer: gymnasium.Env[Any, Any]) -> bool:
    if type(layer).__module__.startswith("gymnasium.wrappers.") and type(layer).__name__ in STATELESS:
        return True
    return isinstance(layer, gymnasium.Wrapper) and vars(layer).keys() <= OF_EVERY_WRAPPER


def _attributes(layer: Any, names: tuple[str, ...]) -> Saver:
    def save() -> list[Any]:
        return [own(getattr(layer, name)) for name in names]

    def load(state: list[Any]) -> None:
        for name, value in zip(names, state, strict=True):
            setattr(layer, name, own(value))

    def own(value: Any) -> Any:
        return value.copy() if isinstance(value, np.ndarray) else value

    return Saver(save, load)


def _mujoco(env: Any) -> Saver:
    """Positions, velocities, activations, time, forces and the warm start of the solver; and the places of bodies.

    Some tasks read those places before a step. MuJoCo computes them in the middle of its last step, so they do not
    follow from its state.
    """
    import mujoco

    signature = mujoco.mjtState.mjSTATE_INTEGRATION
    size = mujoco.mj_stateSize(env.model, signature)

    def save() -> tuple[Any, ...]:
        data, state = env.data, np.empty(size)
        mujoco.mj_getState(env.model, data, state, signature)
        return state, data.xpos.copy(), data.xipos.copy()

    def load(state: tuple[Any, ...]) -> None:
        data = env.data
        mujoco.mj_setState(env.model, data, state[0], signature)
        data.xpos[:], data.xipos[:] = state[1:]

    return Saver(save, load)


def _no_states(layer: str, name: str) -> UsageError:
    what = f"{layer} of {name} cannot save and load its state."
    return UsageError(what, f"Define save_state() and load_state(state) in {layer}, or measure in a MuJoCo task.")
