"""Small tasks that have a part of their way in common. Importing this module registers them in Gymnasium.

    Fork-v0?side=-1                 two goals, at the end of one way that forks (side -1 and 1)
    Corridor-v0?goal=0              four goals on a half circle, behind one corridor (goal 0 to 3)
    MirroredCartPole-v0             CartPole-v1 whose two actions are exchanged

In none of them does the observation say which goal it is.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box

Numbers = npt.NDArray[np.float64]
Step = tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]


class Fork(gymnasium.Env):
    """From (0, -1) in 40 steps of at most 0.1 in each dimension to (side · 0.8, 0.6); the reward is -distance.

    Up is the way of both tasks, sideways is not. The best return is about -12.5.
    """

    def __init__(self, side: float = 1.0) -> None:
        self.observation_space = Box(-6, 6, (2,), np.float32)
        self.action_space = Box(-1, 1, (2,), np.float32)
        self.goal, self.place, self.steps = np.array([0.8 * side, 0.6]), np.zeros(2), 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        gymnasium.Env.reset(self, seed=seed)
        self.place, self.steps = np.array([0.0, -1.0]), 0
        return self.place.astype(np.float32), {}

    def step(self, action: Numbers) -> Step:
        self.place, self.steps = self.place + 0.1 * np.clip(action, -1, 1), self.steps + 1
        reward = -float(np.linalg.norm(self.place - self.goal))
        return self.place.astype(np.float32), reward, False, self.steps == 40, {}


class Corridor(gymnasium.Env):
    """A point with inertia goes through a corridor to one of four goals on the half circle beyond it, in 100 steps.

    It starts at rest at (0, -1). Below y = 0 the corridor is 0.3 wide, and its walls stop the point. The goals are at
    0, 60, 120 and 180 degrees of the unit circle. The reward is -distance - 0.01 |force|².
    """

    def __init__(self, goal: int = 0) -> None:
        self.observation_space = Box(-10, 10, (4,), np.float32)
        self.action_space = Box(-1, 1, (2,), np.float32)
        angle = np.pi / 3 * goal
        self.goal, self.steps = np.array([np.cos(angle), np.sin(angle)]), 0
        self.place, self.speed = np.zeros(2), np.zeros(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        gymnasium.Env.reset(self, seed=seed)
        self.place, self.speed, self.steps = np.array([0.0, -1.0]), np.zeros(2), 0
        return self._seen(), {}

    def step(self, action: Numbers) -> Step:
        force = np.clip(action, -1, 1)
        self.speed = 0.8 * self.speed + 0.03 * force
        after, self.steps = self.place + self.speed, self.steps + 1
        if min(after[1], self.place[1]) < 0 and abs(after[0]) > 0.15:
            after[0], self.speed[0] = np.clip(after[0], -0.15, 0.15), 0.0
        self.place = after
        reward = -float(np.linalg.norm(after - self.goal) + 0.01 * force @ force)
        return self._seen(), reward, False, self.steps == 100, {}

    def _seen(self) -> npt.NDArray[np.float32]:
        return np.concatenate([self.place, 10 * self.speed]).astype(np.float32)


class Mirrored(gymnasium.ActionWrapper):
    """Two discrete actions, exchanged."""

    def action(self, action: Any) -> Any:
        return 1 - action


def mirrored_cart_pole(**options: Any) -> gymnasium.Env:
    """CartPole-v1 that is pushed to the other side."""
    return Mirrored(gymnasium.make("CartPole-v1", **options))


gymnasium.register("Fork-v0", Fork)
gymnasium.register("Corridor-v0", Corridor)
gymnasium.register("MirroredCartPole-v0", mirrored_cart_pole)
