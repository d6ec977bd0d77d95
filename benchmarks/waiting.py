"""An environment whose step waits, as one that asks a simulator elsewhere or a device. It imports no JAX."""

import time
from typing import Any

import gymnasium
import numpy as np

STEP = 0.01
"""Seconds."""


class Waits(gymnasium.Env[Any, Any]):
    """Steps of 10 ms, in which the processor has nothing to do."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (17,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (6,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        gymnasium.Env.reset(self, seed=seed)
        return np.zeros(17, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        time.sleep(STEP)
        return np.zeros(17, np.float32), 0.0, False, False, {}
