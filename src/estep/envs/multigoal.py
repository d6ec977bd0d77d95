"""A point and four goals at equal distances. A policy with one mode reaches only one goal (Haarnoja et al. 2017,
arXiv:1702.08165).

`estep train sql --env estep/MultiGoal-v0`, or with Gymnasium alone
`gymnasium.make("estep.envs.multigoal:estep/MultiGoal-v0")`.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box

ID = "estep/MultiGoal-v0"
GOALS = np.array([[5.0, 0.0], [-5.0, 0.0], [0.0, 5.0], [0.0, -5.0]])
REACHED = 1.0
"""Distance at which a goal is reached."""
HALF_WIDTH = 7.0
"""Half the width of the square in which the point moves."""


class MultiGoal(gymnasium.Env[npt.NDArray[np.float32], npt.NDArray[np.float32]]):
    """s' = clip(s + a) with a in [-1, 1]². The reward is -30 |a|² - min_g |s' - g|², plus 10 when a goal is reached.

    Reaching a goal ends the episode. An episode has at most 30 steps. It starts near the origin, or at
    `options["place"]`.
    """

    def __init__(self) -> None:
        self.observation_space = Box(-HALF_WIDTH, HALF_WIDTH, (2,), np.float32)
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)
        self._position = np.zeros(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        gymnasium.Env.reset(self, seed=seed)
        start = 0.1 * self.np_random.standard_normal(2)
        self._position = np.asarray((options or {}).get("place", start), np.float64)
        return self._position.astype(np.float32), {}

    def step(
        self, action: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        push = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        self._position = np.clip(self._position + push, -HALF_WIDTH, HALF_WIDTH)
        square = np.square(self._position - GOALS).sum(1).min()
        reached = bool(square < REACHED**2)
        reward = -30.0 * np.square(push).sum() - square + 10.0 * reached
        return self._position.astype(np.float32), float(reward), reached, False, {}


def goal_of(place: npt.ArrayLike) -> int:
    """The index of the goal that a position [2] has reached, or -1."""
    square = np.square(np.asarray(place, np.float64) - GOALS).sum(1)
    return int(square.argmin()) if square.min() < REACHED**2 else -1


if ID not in gymnasium.registry:
    gymnasium.register(ID, entry_point=f"{__name__}:{MultiGoal.__name__}", max_episode_steps=30)
