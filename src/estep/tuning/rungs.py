"""A trial that is trained in steps, to one rung after the other: at each rung it may be stopped for good."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from estep.errors import EnvironmentFailure
from estep.sweeps import status
from estep.sweeps.lines import Consent, Task
from estep.sweeps.plan import Run
from estep.sweeps.process import execute
from estep.tuning.trial import iqm

FACTOR = 3
"""Of the trials at a rung one in so many goes on, and takes so many times the steps."""
RUNGS = 3


class Part(NamedTuple):
    """A trial as Ray carries it to the node that trains it."""

    place: Path
    """Its folder, which every node sees."""
    runs: Sequence[Run]
    """One for each seed."""


def rungs(budget: int) -> list[int]:
    """Environment steps at which trials are compared; the last is the budget.

    Example:
        >>> rungs(9000)
        [1000, 3000, 9000]
    """
    return sorted({max(1, budget // FACTOR**i) for i in range(RUNGS)})


def train_to(part: Part, steps: int) -> float:
    """Train the runs of a trial to so many steps, each as a process; returns the value of the trial there.

    The first process is `estep train`, and every later one is `estep resume`: it goes on exactly where that one ended.

    Raises:
        EnvironmentFailure: a run has no result.
    """
    values = []
    for run in part.runs:
        execute(Task(part.place, run, Consent(allow_import=True), steps))
        found = status.of(part.place, run.id)
        if found.state != status.DONE or found.eval_mean is None:
            what = f"The run {run.id} ended without a result at {found.env_steps or 0} steps: {found.error}."
            raise EnvironmentFailure(what, f"See the logs in {part.place}.")
        values.append(float(found.eval_mean))
    value = iqm(values)
    assert value is not None
    return value
