"""The scale of the rewards that are learned from: factors that are given, and one that follows the returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from estep.core.types import Floats, Transition
from estep.data.normalise import FLOOR, Moments
from estep.errors import RejectedInput

LARGEST = 5.0
"""Largest return, in absolute value, after the division."""


class ReturnSpread:
    """How large returns are, by the discounted sums of the rewards so far in the open episodes:

        G_t = γ G_t-1 + r_t,    divisor = max(std G, max |G| / 5)

    Rewards that are divided by it have returns of a spread of 1 at most, and of 5 at most in absolute value. Any factor
    of the rewards is then without effect, and a histogram of values from -5 to 5 fits every task.

    Example:
        >>> import numpy as np
        >>> from estep.data.rewards import ReturnSpread
        >>> spread = ReturnSpread(num_envs=1, gamma=0.5)
        >>> for reward in (8.0, 8.0, -20.0):
        ...     spread.add(np.array([reward]), ended=np.array([False]), valid=np.array([True]))
        >>> round(spread.divisor, 2)  # the standard deviation of 8, 12 and -14
        11.43

    Source:
        Lee et al. 2025, arXiv:2502.15280 (SimbaV2).
    """

    def __init__(self, num_envs: int, gamma: float) -> None:
        """Begin without data.

        Args:
            num_envs: the number E of environments.
            gamma: γ.
        """
        self._gamma = gamma
        self._moments = Moments(1)
        self._largest = np.zeros(1)
        self._open = np.zeros(num_envs)

    def add(self, reward: Floats, ended: npt.NDArray[np.bool_], valid: npt.NDArray[np.bool_]) -> None:
        """Add a step of each environment.

        Args:
            reward: the rewards [E].
            ended: which episodes ended with the step [E].
            valid: which steps are good [E]. The others do not count.
        """
        self._open = np.where(valid, self._gamma * self._open + np.asarray(reward, np.float64), self._open)
        seen = self._open[valid]
        self._moments.update(seen[:, None])
        self._largest = np.maximum(self._largest, np.abs(seen).max(initial=0.0))
        self.cut(ended)

    def cut(self, which: npt.NDArray[Any]) -> None:
        """Begin new episodes in some of the environments."""
        self._open[which] = 0.0

    @property
    def divisor(self) -> float:
        """What rewards are divided by; 1 before the first that is not 0."""
        largest = float(self._largest[0])
        if not largest:
            return 1.0
        return max(float(np.sqrt(np.maximum(self._moments.variance[0], FLOOR))), largest / LARGEST)

    def arrays(self) -> dict[str, npt.NDArray[np.float64]]:
        """The state as float64 copies, for a checkpoint."""
        return self._moments.arrays() | {"largest": self._largest.copy(), "open": self._open.copy()}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Load what `arrays` gave. Raises RejectedInput if a shape is wrong or a number is not finite."""
        self._moments.load(arrays)
        for name, now in (("largest", self._largest), ("open", self._open)):
            saved = arrays.get(name)
            if saved is None or saved.shape != now.shape or saved.dtype != now.dtype or not np.isfinite(saved).all():
                what = f"The saved spread of returns is malformed: {name} has the wrong shape, type or values."
                raise RejectedInput(what, "Move this checkpoint out of the run folder, then resume.")
        self._largest, self._open = arrays["largest"].copy(), arrays["open"].copy()


class Rewards:
    """What becomes of rewards on their way into replay, and out of it.

    Replay has them times the factors that are given. They are divided as they are read, so that old steps have the
    scale of now.
    """

    def __init__(self, factors: Floats | None, spread: ReturnSpread | None) -> None:
        """Begin without data.

        Args:
            factors: the factor of each environment [E]; None for 1.
            spread: what rewards are divided by; None for 1.
        """
        self._factors, self.spread = factors, spread

    def stored(self, reward: Floats, ended: npt.NDArray[np.bool_], valid: npt.NDArray[np.bool_]) -> Floats:
        """The rewards [E] that replay keeps of a step. The arguments are those of `ReturnSpread.add`."""
        kept = reward if self._factors is None else reward * self._factors
        if self.spread is not None:
            self.spread.add(kept, ended, valid)
        return kept

    def read(self, batches: Transition) -> Transition:
        """Steps of replay as they are learned from."""
        if self.spread is None:
            return batches
        return batches._replace(reward=batches.reward / np.float32(self.spread.divisor))
