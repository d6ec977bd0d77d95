"""HalfCheetah that is to run at a given speed: tasks that differ in one number.

`estep train sac --env "estep/HalfCheetahVelocity-v0?velocity=1" "estep/HalfCheetahVelocity-v0?velocity=3"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.utils import EzPickle

from estep.errors import UsageError

if TYPE_CHECKING:  # its import brings JAX, which worker processes do without
    from estep.core.types import Floats


class HalfCheetahVelocity(HalfCheetahEnv):
    """HalfCheetah-v5 with the reward -|v - v*| minus its cost of control, where v is the speed along x.

    Source:
        The tasks of Finn et al. 2017, arXiv:1703.03400.
    """

    def __init__(self, velocity: float = 1.0, **options: Any) -> None:
        """Make the environment.

        Args:
            velocity: the target speed v*, in metres per second; backwards below 0.
            **options: those of HalfCheetah-v5, such as ctrl_cost_weight.

        Raises:
            UsageError: the speed is not a finite number.
        """
        if isinstance(velocity, bool) or not isinstance(velocity, int | float) or not np.isfinite(velocity):
            raise UsageError(
                f"velocity is {velocity!r:.100}, which is not a number.", "Give a speed such as velocity=2."
            )
        self._velocity = float(velocity)
        HalfCheetahEnv.__init__(self, **options)
        EzPickle.__init__(self, velocity, **options)

    def _get_rew(self, x_velocity: float, action: Floats) -> tuple[float, dict[str, float]]:
        error, control = abs(x_velocity - self._velocity), float(self._ctrl_cost_weight * np.square(action).sum())
        return -error - control, {"reward_velocity": -error, "reward_ctrl": -control}
