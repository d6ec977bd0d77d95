"""Environments that worker processes make. This module imports no JAX, so that a worker that imports it has none."""

import os
import signal
import sys
import time

import gymnasium
import numpy as np
from gymnasium import spaces

UNIT = spaces.Box(-1.0, 1.0, (1,), np.float32)


class Odd(gymnasium.Env):
    """A Dict of parts, other types than declared, random lengths, and successes."""

    observation_space = spaces.Dict(
        {
            "place": spaces.Box(-9.0, 9.0, (2, 2), np.float32),
            "inner": spaces.Dict({"kind": spaces.Discrete(3, start=1), "bits": spaces.MultiBinary(3)}),
        }
    )
    action_space = UNIT

    def _obs(self):
        place = self.np_random.normal(size=(2, 2))  # float64, where float32 is declared
        kind = int(self.np_random.integers(1, 4))
        return {"place": place, "inner": {"kind": kind, "bits": self.np_random.integers(0, 2, 3, np.int8)}}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.length = 0, int(self.np_random.integers(2, 9))
        return self._obs(), {}

    def step(self, action):
        self.steps += 1
        reward = (float(action[0]), np.float32(action[0]), 1, np.float64(0.3))[self.steps % 4]
        ends = self.steps == self.length
        obs = self._obs()
        if self.steps == self.length == 7:
            obs["place"][0, 0] = np.nan
        info = {"success": self.steps > 3, "anything": lambda: None} if self.steps % 2 else {}
        return obs, reward, ends and self.length % 2 == 0, np.bool_(ends and self.length % 2), info


class Told(gymnasium.Env):
    """Its action tells it what to do: above 0.9 it is killed, below -0.9 it hangs, and near 0.5 it raises."""

    observation_space, action_space = spaces.Box(-np.inf, np.inf, (3,)), UNIT

    def _obs(self):
        modules = any(name in sys.modules for name in ("jax", "jaxlib", "equinox"))
        return np.array([self.steps, self.noise, modules])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.noise = 0, self.np_random.normal()
        return self._obs(), {}

    def step(self, action):
        self.steps += 1
        if action[0] > 0.9:
            os.kill(os.getpid(), signal.SIGKILL)
        if action[0] < -0.9:
            time.sleep(1000.0)
        if 0.4 < action[0] < 0.6:
            raise RuntimeError("boom")
        return self._obs(), 1.0, False, self.steps == 20, {}


class Slow(Told):
    """A step takes 10 ms, whatever its action."""

    def step(self, action):
        time.sleep(0.01)
        return Told.step(self, np.zeros(1))


gymnasium.register("estep/Slow-v0", Slow)


def refuses():
    """Makes nothing."""
    raise ValueError("no licence")
