"""Seeds that failed: their last evaluation is no number, so that no table and no figure leaves them out.

A seed that ends because its updates or its environment failed has no return after that. To compare the others up to
where it ended, or to leave it out, would hide what it says of the algorithm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from estep.errors import EnvironmentFailure, NumericHalt
from estep.runs.folder import MEMBERS, RunFolder

FAILED = (NumericHalt.exit_code, EnvironmentFailure.exit_code)
"""Exit codes of runs that failed. Others were stopped, or the machine ended them."""


def failed(run_dir: Path) -> dict[int, int]:
    """The seeds of a run that failed, each with its number of steps then: by their number in a population, and 0 for a
    run of one seed.

    Args:
        run_dir: the run folder.

    Raises:
        RejectedInput: run.json cannot be read.
    """
    record = RunFolder.open(run_dir).read_run()
    result, members = record.get("result") or {}, record.get("failed") or {}
    if (run_dir / MEMBERS).is_dir():
        return {int(member): int(one["env_steps"]) for member, one in members.items()}
    split = "member" in record and record.get("error")  # a seed of a population in a folder of its own
    over = record.get("status") == "error" and record.get("exit_code") in FAILED
    steps = result.get("env_steps") or 0
    return {0: int(steps)} if split or (over and steps) else {}


def below_all(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns, with -inf for those that are not finite: a seed that failed is below every other one.

    Example:
        >>> below_all([1.0, float("nan")]).tolist()
        [1.0, -inf]
    """
    numbers = np.asarray(values, np.float64)
    return np.where(np.isfinite(numbers), numbers, -math.inf)


def known(numbers: Sequence[float]) -> list[float]:
    """The numbers, with NaN for those that a failed seed made infinite."""
    return [number if math.isfinite(number) else math.nan for number in numbers]
