"""What is compared: run folders, folders of runs, and tables of evaluations."""

from __future__ import annotations

import itertools
import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

from estep.errors import RejectedInput
from estep.plots import labels
from estep.plots.failures import failed
from estep.plots.learning_curves import EVALUATIONS, OF_TASK, Point, points
from estep.policy.starts.of_seed import below
from estep.runs.folder import LATEST, MEMBERS, RUN, RunFolder


class Found(NamedTuple):
    """The evaluations of some sources."""

    points: list[Point]
    notes: list[str]
    """Sentences on what was left out."""


def read(named: Sequence[Path]) -> Found:
    """The evaluations of all sources. Of a run that is given twice, the last counts.

    Args:
        named: run folders, files `latest`, folders in which there are run folders, or tables of evaluations.

    Raises:
        RejectedInput: one is none of these, or it is a run without an evaluation. In a folder of runs such a run is
            left out.
    """
    sources, notes = [], []
    for path in named:
        several = not _is_source(path)
        for one in members(path):
            rows = [] if _never_evaluated(one) else points(one)
            if rows:
                sources.append(rows)
            elif several:
                notes.append(f"{one.relative_to(path.absolute())} has no evaluation yet and is left out.")
            else:
                raise RejectedInput(
                    f"There is no evaluation in {path}: its eval.csv is missing or empty.",
                    "Train it up to its first evaluation, or leave it out.",
                )
    found = labels.newest(sources)
    twice = sum(len(set(map(_run_of, rows))) for rows in sources) - len(set(map(_run_of, found)))
    if twice:
        has = "run has" if twice == 1 else "runs have"
        notes.append(f"{twice} {has} the seed and the settings of another one. The last counts.")
    return Found(found, notes)


def _run_of(row: Point) -> Hashable:
    """Equal for the lines of one run, also for those of its several tasks."""
    return labels.run_key(row._replace(env=row.env.partition(OF_TASK)[0]))


def _never_evaluated(path: Path) -> bool:
    """Whether a run has no file of evaluations, and did not fail before the first one."""
    files = itertools.chain([path / "eval.csv"], path.glob(f"{MEMBERS}/*/eval.csv"))
    return (path / RUN).is_file() and not any(file.is_file() for file in files) and not failed(path)


def _is_source(path: Path) -> bool:
    """Whether a path is one run or one table, and not a folder in which there are runs."""
    one = path.name == LATEST or path.suffix == ".csv"
    return one or any(os.path.lexists(path / name) for name in (RUN, EVALUATIONS))


def holds_a_run(path: Path) -> bool:
    """Whether a path is a run, a table, or a folder in which there are runs; not a folder of tables."""
    if path.name == LATEST or path.suffix == ".csv" or os.path.lexists(path / RUN):
        return True
    return next(below(path.absolute()), None) is not None


def members(path: Path) -> list[Path]:
    """The runs and tables that a path stands for.

    Raises:
        RejectedInput: it is no run, and no run is in it.
    """
    if path.name == LATEST:
        return [RunFolder.open(path).path]
    return [path] if _is_source(path) else sorted(below(path.absolute())) or [RunFolder.open(path).path]
