"""A named reference, by which returns become scores: 0 for the low return of a task, and 1 for the high one."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from estep.comparing.statistics import Array
from estep.errors import RejectedInput, unknown
from estep.runs import tables


class Line(NamedTuple):
    """A line of a reference."""

    task: str
    """The environment, as the run has it; `*` stands for any text."""
    low: float
    high: float


class Reference(NamedTuple):
    """Where returns become scores."""

    name: str
    lines: Sequence[Line]
    note: str = ""
    """A sentence on where its numbers are from, for the page."""

    def scores(self, task: str, returns: Array) -> Array:
        """The scores of some returns. Raises RejectedInput for a task that it does not have."""
        for line in self.lines:
            if line.task == task or fnmatch.fnmatchcase(task, line.task):
                return (returns - line.low) / (line.high - line.low)
        raise RejectedInput(
            f"The reference {self.name} has no line for {task}.",
            f"Add a line {task},LOW,HIGH to a file with the columns task,low,high, or compare without --reference.",
        )


KNOWN = {
    "control-suite": Reference(
        "control-suite",
        (Line("dm_control/*", 0.0, 1000.0),),
        "Rewards of the Control Suite are in [0, 1] for 1,000 steps (Tassa et al. 2018, arXiv:1801.00690).",
    ),
    "d4rl": Reference(
        "d4rl",
        (
            Line("HalfCheetah-v[2345]", -280.178953, 12135.0),
            Line("Hopper-v[2345]", -20.272305, 3234.3),
            Line("Walker2d-v[2345]", 1.629008, 4592.3),
            Line("Ant-v[2345]", -325.6, 3879.7),
        ),
        "Its returns are those of a random policy and of a trained SAC on the first versions of these tasks (Fu et al. "
        "2020, arXiv:2004.07219; the table of scores of its repository). Later versions have other rewards and "
        "observations, so take a score as a common scale, and not as a share of what an expert returns today.",
    ),
}
"""References by name."""


def read(given: str) -> Reference:
    """The reference of a name, or of a CSV file with the columns task, low and high.

    Raises:
        UsageError: the name is unknown.
        RejectedInput: the file is no such table.
    """
    if given in KNOWN:
        return KNOWN[given]
    if not given.endswith(".csv"):
        names = f"Give one of: {', '.join(KNOWN)}; or a file.csv with the columns task,low,high."
        raise unknown("reference", given, KNOWN, names)
    lines = tables.read(Path(given), Line)
    wrong = [
        line for line in lines if not (math.isfinite(line.low) and math.isfinite(line.high)) or line.low == line.high
    ]
    if wrong or not lines:
        what = f"{given} has no two numbers low and high that differ for {wrong[0].task}." if wrong else ""
        raise RejectedInput(what or f"{given} has no line.", "Give a line task,low,high for each task.")
    return Reference(Path(given).name, lines)
