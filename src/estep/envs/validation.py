"""Telling good transitions from bad ones, and when bad ones are too many."""

from __future__ import annotations

import collections
import math
import numbers
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from estep.envs.base import Counters
from estep.envs.spaces import Floats, ObservationSpace
from estep.errors import EnvironmentFailure, RejectedInput

WINDOW = 100_000
"""Transitions over which bad ones are counted."""
IN_A_ROW = 10
LARGEST = float(np.finfo(np.float32).max)
PLAIN = (float, np.float64)
REAL = (numbers.Real, np.bool_)
FLAG = (np.bool_, numbers.Integral)
"""Types of numbers. The common ones are looked for first: asking an abstract class costs a microsecond."""
RESETTING = (3, 4, 5, 6)
"""mjWARN_BADQPOS, BADQVEL, BADQACC and BADCTRL: after these MuJoCo has reset the state or zeroed the control."""


def finite(array: Floats) -> bool:
    """Whether every number is finite: np.isfinite(array).all(), at a third of its cost for small arrays."""
    return b"\0" not in np.isfinite(array).tobytes()


@np.errstate(over="ignore", invalid="ignore")  # a cast that overflows gives inf, which is then seen
def read_observation(value: Any, space: ObservationSpace, out: Floats) -> str:
    """Cast an observation into out [o] float32. Returns what is wrong with it, or an empty string."""
    if type(value) is not np.ndarray:
        if isinstance(value, np.ma.MaskedArray) or not hasattr(value, "__array__"):
            return f"the observation is a {type(value).__name__}, not an array"
        value = np.asarray(value)
    if value.shape != space.shape:
        return f"the observation has shape {value.shape}, not {space.shape}"
    if value.dtype.kind not in space.kinds:
        return f"the observation has dtype {value.dtype}"
    out[:] = value if value.ndim == 1 else value.reshape(-1)
    if not finite(out):
        return "the observation is not finite in float32"
    return ""


def read_reward(value: Any) -> float:
    """The reward as a float; NaN when it is not one real number or not finite in float32. A bool counts as 0 or 1."""
    if type(value) not in PLAIN and not isinstance(value, REAL):
        if type(value) is not np.ndarray or value.shape != () or value.dtype.kind not in "fiub":
            return math.nan
        value = value.item()
    try:
        number = float(value)
    except OverflowError:  # an integer beyond float64
        return math.nan
    return number if -LARGEST <= number <= LARGEST else math.nan


def is_flag(value: Any) -> bool:
    """Whether a value can stand for terminated or truncated: a bool, or an integer used as one."""
    return type(value) is bool or isinstance(value, FLAG)


class Bounds:
    """Warns once when an observation leaves its declared bounds. The observation is kept: bounds are often careless."""

    def __init__(self, space: ObservationSpace, name: str) -> None:
        self._low, self._high, self._name = space.low, space.high, name
        self._watching = space.bounded

    def look(self, obs: Floats) -> None:
        """Compare obs [o] with the bounds, widened by 1e-5 of their size for rounding; infinite bounds never warn."""
        if self._watching and not ((obs >= self._low) & (obs <= self._high)).all():
            self._watching = False
            outside = int(np.argmin((obs >= self._low) & (obs <= self._high)))
            warnings.warn(
                f"{self._name}: observation {outside} is {obs[outside]:g}, outside its declared bounds; it is kept.",
                RuntimeWarning,
                stacklevel=2,
            )


class SimulationClock:
    """Notices that MuJoCo reset its state in the middle of an episode, which nothing else tells."""

    def __init__(self, env: Any) -> None:
        self._env = env
        self._data: Any = None

    def start(self) -> None:
        """Begin an episode. The data object is looked up anew: some environments build one at each reset."""
        data: Any = getattr(self._env.unwrapped, "data", None)
        if not (hasattr(data, "time") and hasattr(data, "warning")):
            self._data = None
            return
        self._data, self._time = data, data.time
        self._items = [data.warning[kind] for kind in RESETTING]
        self._warnings = sum([item.number for item in self._items])

    @property
    def watching(self) -> bool:
        """Whether this is a MuJoCo environment, from the first episode on."""
        return self._data is not None

    def was_reset(self) -> str:
        """After a step: what shows that the simulator was reset, or an empty string."""
        data = self._data
        if data is None:
            return ""
        before, self._time = self._time, data.time
        if not self._time > before:
            return f"the simulation time went from {before:g} to {self._time:g}"
        a, b, c, d = self._items
        if a.number + b.number + c.number + d.number > self._warnings:
            return "MuJoCo found its state unstable"
        return ""


class BadTransitions:
    """Counts bad transitions of E environments: in all, in a row for each, and over the last 100,000."""

    def __init__(self, num_envs: int, name: str) -> None:
        self.total = 0
        self.seen = 0
        """Transitions so far, good and bad."""
        self._row = [0] * num_envs
        self._recent: collections.deque[int] = collections.deque()
        self._name = name

    def good(self, env: int) -> None:
        """Count a good transition."""
        self.seen += 1
        self._row[env] = 0

    def bad(self, env: int, why: str) -> None:
        """Count a bad one. Raises EnvironmentFailure at 10 in a row or above max(10, 0.1 %) of the last 100,000."""
        self.seen += 1
        self.total += 1
        self._row[env] += 1
        recent = self._recent
        recent.append(self.seen)
        while recent[0] <= self.seen - WINDOW:
            recent.popleft()
        fix = "Run estep check-env on it, and make its step and reset return finite values of the declared shape."
        if self._row[env] >= IN_A_ROW:
            raise EnvironmentFailure(f"{self._name} gave {IN_A_ROW} bad transitions in a row; in the last, {why}.", fix)
        span = min(self.seen, WINDOW)
        if len(recent) > max(10, span // 1000):
            what = f"{self._name} gave {len(recent)} bad transitions in the last {span}; in the last, {why}."
            raise EnvironmentFailure(what, fix)

    def counters(self) -> Counters:
        """Plain lists of numbers."""
        return {"total": [self.total], "seen": [self.seen], "row": list(self._row), "recent": list(self._recent)}

    def load(self, counters: Mapping[str, Any]) -> None:
        """Take up saved counters. Raises RejectedInput when they are malformed."""
        try:
            read = {key: [int(n) for n in counters[key]] for key in ("total", "seen", "row", "recent")}
        except (KeyError, TypeError, ValueError) as error:
            raise _malformed() from error
        (self.total,), (self.seen,) = read["total"], read["seen"]
        if len(read["row"]) != len(self._row) or read["recent"] != sorted(read["recent"]):
            raise _malformed()
        self._row, self._recent = read["row"], collections.deque(read["recent"])


def _malformed() -> RejectedInput:
    return RejectedInput(
        "The saved counters of bad transitions are malformed.", "Resume from an earlier checkpoint of this run."
    )
