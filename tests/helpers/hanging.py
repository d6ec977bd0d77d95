"""An environment of which one call fails, as HANGING says: `step sleep FILE`, `step lock FILE`, `reset raise -`.

The file takes the time at which the call began. A sleep lets go of the interpreter; a lock does not.
"""

import ctypes
import os
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np


class Hanging(gymnasium.Env):
    """Twenty steps with the spaces of Pendulum-v1."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012 (as Gymnasium has it)
    observation_space = gymnasium.spaces.Box(-8.0, 8.0, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (1,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode, self.count = render_mode, 0
        self.fail("construction")

    def fail(self, call):
        wanted, how, place = os.environ.get("HANGING", "- - -").split()
        if wanted != call:
            return
        if how == "exit":
            sys.exit(0)
        if how == "raise":
            raise RuntimeError("broken on purpose")
        Path(place).write_text(str(time.monotonic()))
        if how == "lock":
            ctypes.PyDLL(None).sleep(60)
        else:
            time.sleep(60)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.fail("reset")
        self.count = 0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action):
        self.fail("step")
        self.count += 1
        return np.full(3, self.count / 20, np.float32), -1.0, False, self.count == 20, {}

    def render(self):
        self.fail("render")
        return np.full((48, 64, 3), 10 * self.count, np.uint8)

    def close(self):
        self.fail("close")


if "Hanging-v0" not in gymnasium.registry:
    gymnasium.register("Hanging-v0", Hanging)
