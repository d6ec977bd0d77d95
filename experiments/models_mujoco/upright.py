"""HalfCheetah-v5 without the reward for sliding on the back. Importing this module registers it in Gymnasium.

    UprightHalfCheetah-v0           forward speed is paid only while the body is turned by less than a quarter of a turn

All else is as in HalfCheetah-v5: the cost of control counts always, and no state ends the episode.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

ANGLE = 1
"""Which number of the observation is the angle of the body, in radians; 0 is on its feet."""


class PaidOnItsFeet(gymnasium.Wrapper):
    """Takes the reward for forward speed away where the body lies on its back."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        if np.cos(obs[ANGLE]) < 0.0:
            reward = float(reward) - info["reward_forward"]
        return obs, reward, terminated, truncated, info


def make(**given: Any) -> PaidOnItsFeet:
    """The environment, with arguments of HalfCheetah-v5."""
    return PaidOnItsFeet(HalfCheetahEnv(**given))


gymnasium.register("UprightHalfCheetah-v0", make, max_episode_steps=1000)
