"""Two tasks that have half of their way in common: a plane, and a fork of the path to two goals."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box


class Fork(gymnasium.Env):
    """From (0, -1) in 40 steps of at most 0.1 in each dimension to (side · 0.8, 0.6); the reward is -distance.

    Up is the way of both tasks, sideways is not. The best return is about -12.5.
    """

    def __init__(self, side=1.0):
        self.observation_space = Box(-6, 6, (2,), np.float32)
        self.action_space = Box(-1, 1, (2,), np.float32)
        self.goal, self.place, self.steps = np.array([0.8 * side, 0.6]), np.zeros(2), 0

    def reset(self, *, seed=None, options=None):
        gymnasium.Env.reset(self, seed=seed)
        self.place, self.steps = np.array([0.0, -1.0]), 0
        return self.place.astype(np.float32), {}

    def step(self, action):
        self.place, self.steps = self.place + 0.1 * np.clip(action, -1, 1), self.steps + 1
        reward = -float(np.linalg.norm(self.place - self.goal))
        return self.place.astype(np.float32), reward, False, self.steps == 40, {}


def left():
    """The task whose goal is on the left."""
    return Fork(-1.0)


def right():
    """The task whose goal is on the right."""
    return Fork(1.0)
