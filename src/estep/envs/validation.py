"""Which transitions are bad, and how many bad transitions end a run."""

from __future__ import annotations

import collections
import math
import numbers
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from estep.core.types import Floats
from estep.envs.base import Counters
from estep.envs.elsewhere.layout import RESETTING
from estep.envs.observations import ObservationSpace, is_array
from estep.errors import EnvironmentFailure, RejectedInput

WINDOW = 100_000
"""Bad transitions are counted over this many recent transitions."""
IN_A_ROW = 10
LARGEST = float(np.finfo(np.float32).max)
PLAIN = (float, np.float64)
REAL = (numbers.Real, np.bool_)
FLAG = (np.bool_, numbers.Integral)
"""Types of numbers. The common types are checked first, because a check of an abstract class takes a microsecond."""


def finite(array: Floats) -> bool:
    """Whether every number is finite. For small arrays this takes a third of the time of np.isfinite(array).all()."""
    return b"\0" not in np.isfinite(array).tobytes()


@np.errstate(over="ignore", invalid="ignore")  # a cast that overflows gives inf, which the test below finds
def read_observation(value: Any, space: ObservationSpace, out: Floats) -> str:
    """Write an observation into an array as float32.

    Args:
        value: the observation that the environment gave.
        space: its declared space.
        out: [o], where it is written.

    Returns:
        What is wrong with the observation, or an empty string.
    """
    if not space.plain:
        return space.read(value, out) or ("" if finite(out) else "the observation is not finite in float32")
    if type(value) is not np.ndarray:
        if not is_array(value, space.shape):
            return f"the observation is of type {type(value).__name__}, not an array"
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
    """The reward as a float. It is NaN unless the value is one real number, finite in float32. A bool is 0 or 1."""
    if type(value) not in PLAIN and not isinstance(value, REAL):
        if not is_scalar_array(value, "fiub"):
            return math.nan
        value = np.asarray(value).item()
    try:
        number = float(value)
    except OverflowError:  # an integer beyond float64
        return math.nan
    return number if -LARGEST <= number <= LARGEST else math.nan


def read_success(info: Any, before: float | None) -> float | None:
    """How successful an episode is, from 0 to 1, after one more step; None if no `info` of it tells.

    Args:
        info: the step's `info`. `is_success` counts at the last step that has it, `success` if it held at any step.
        before: the value after the step before.
    """
    if not isinstance(info, dict):
        return before
    for name, least in (("is_success", 0.0), ("success", before or 0.0)):
        number = read_reward(info[name]) if name in info else math.nan
        if number == number:
            return max(least, min(max(number, 0.0), 1.0))
    return before


def is_flag(value: Any) -> bool:
    """Whether a value is allowed for terminated or truncated: a bool or an integer, also as an array without axes."""
    return type(value) is bool or isinstance(value, FLAG) or is_scalar_array(value, "biu")


def is_scalar_array(value: Any, kinds: str) -> bool:
    """Whether a value is an array without axes, of NumPy or another library, with a dtype of one of these kinds."""
    if isinstance(value, np.ma.MaskedArray) or not hasattr(value, "__array__"):
        return False
    array = np.asarray(value)
    return array.shape == () and array.dtype.kind in kinds


class Bounds:
    """Warns once when an observation is outside its declared bounds, which are often wrong. It is used all the same."""

    def __init__(self, space: ObservationSpace, name: str) -> None:
        self._low, self._high, self._name = space.low, space.high, name
        self._watching = space.bounded

    def check(self, obs: Floats) -> None:
        """Compare obs [o] with the bounds, widened by 1e-5 of their size because of rounding."""
        if self._watching and not ((obs >= self._low) & (obs <= self._high)).all():
            self._watching = False
            outside = int(np.argmin((obs >= self._low) & (obs <= self._high)))
            warnings.warn(
                f"{self._name}: observation {outside} is {obs[outside]:g}, outside its declared bounds. "
                "estep uses the value as it is.",
                RuntimeWarning,
                stacklevel=2,
            )


class SimulationClock:
    """Detects that MuJoCo reset its state in the middle of an episode. The environment itself does not report it.

    MuJoCo counts the warnings before such a reset. What the environment does itself changes no count: it may place
    bodies without a step, wait, or reset the simulation for a respawn, and none of that is a fault.
    """

    def __init__(self, env: Any, watches: bool = True) -> None:
        self._env, self._watches = env, watches
        self._data: Any = None

    def of(self, env: Any) -> SimulationClock:
        """The same for another environment."""
        return SimulationClock(env, self._watches)

    def start(self) -> None:
        """Begin an episode. The data object is read again, because some environments make a new one at each reset."""
        if not self._watches:
            return
        try:
            data: Any = getattr(self._env.unwrapped, "data", None)
            self._items = [data.warning[kind] for kind in RESETTING]
            self._time, self._warnings = data.time, self._count()
        except Exception:  # no MuJoCo environment: `data` is absent, is something else, or is a property that raises
            data = None
        self._data = data

    def jump(self) -> None:
        """Go on from another state of the same data object: its time differs, and no warning is new."""
        if self._data is not None:
            self._time = self._data.time

    @property
    def watching(self) -> bool:
        """Whether this is a MuJoCo environment; known after the first `start`."""
        return self._data is not None

    def was_reset(self) -> str:
        """After a step: how one can see that MuJoCo reset itself, or an empty string."""
        data = self._data
        if data is None:
            return ""
        time, warnings = data.time, self._count()
        # A reset by MuJoCo sets the counts to 0 and then counts its own warning. So the count may be the one of
        # before; then the time, which has gone back, tells it.
        unstable = warnings > self._warnings or (warnings > 0 and time < self._time)
        self._time, self._warnings = time, warnings
        return "MuJoCo reported an unstable state and reset itself" if unstable else ""

    def _count(self) -> int:
        a, b, c, d = self._items
        return int(a.number + b.number + c.number + d.number)


class BadTransitions:
    """Counts bad transitions of E environments: in total, in a row per environment, and in the last 100,000."""

    def __init__(self, num_envs: int, name: str) -> None:
        self.total = 0
        self.seen = 0
        """Number of transitions so far, good and bad."""
        self._in_a_row = [0] * num_envs
        self._recent: collections.deque[int] = collections.deque()
        self._name = name

    def good(self, env: int) -> None:
        """Count a good transition."""
        self.seen += 1
        self._in_a_row[env] = 0

    def forgive(self, env: int) -> None:
        """Begin to count those in a row anew, because the environment was made anew."""
        self._in_a_row[env] = 0

    def bad(self, env: int, why: str) -> None:
        """Count a bad transition.

        Args:
            env: index of the environment.
            why: what is wrong with the transition.

        Raises:
            EnvironmentFailure: 10 bad transitions in a row, or more than max(10, 0.1 %) of the last 100,000.
        """
        self.seen += 1
        self.total += 1
        self._in_a_row[env] += 1
        recent = self._recent
        recent.append(self.seen)
        while recent[0] <= self.seen - WINDOW:
            recent.popleft()
        fix = "Run estep check-env. The environment must return finite values of the declared shape."
        if why.startswith("MuJoCo"):
            fix = "Use a smaller time step or smaller forces; or give --no-detect-resets to train on such steps."
        if self._in_a_row[env] >= IN_A_ROW:
            raise EnvironmentFailure(f"{self._name} gave {IN_A_ROW} bad transitions in a row; in the last, {why}.", fix)
        span = min(self.seen, WINDOW)
        if len(recent) > max(10, span // 1000):
            what = f"{self._name} gave {len(recent)} bad transitions in the last {span}; in the last, {why}."
            raise EnvironmentFailure(what, fix)

    def counters(self) -> Counters:
        """The counts as lists of numbers."""
        return {"total": [self.total], "seen": [self.seen], "row": list(self._in_a_row), "recent": list(self._recent)}

    def load(self, counters: Mapping[str, Any]) -> None:
        """Load saved counts. Raises RejectedInput if they are malformed."""
        try:
            read = {key: [int(n) for n in counters[key]] for key in ("total", "seen", "row", "recent")}
        except (KeyError, TypeError, ValueError) as error:
            raise _malformed() from error
        (self.total,), (self.seen,) = read["total"], read["seen"]
        if len(read["row"]) != len(self._in_a_row) or read["recent"] != sorted(read["recent"]):
            raise _malformed()
        self._in_a_row, self._recent = read["row"], collections.deque(read["recent"])


def _malformed() -> RejectedInput:
    return RejectedInput(
        "The saved counts of bad transitions are malformed.", "Move this checkpoint out of the run folder, then resume."
    )
