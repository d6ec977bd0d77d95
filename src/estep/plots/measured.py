"""What `estep inspect` left in the folders of several runs, as tables over runs.

A line of such a table begins with the label of its run. Besides runs, a folder that holds such tables stands for the
runs in them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from estep.plots import labels
from estep.plots.learning_curves import OneSeed, seeds_of
from estep.runs.folder import RUN, RunFolder

LAST = 10
"""Lines of metrics over which the critics of a run are averaged."""
COPIED = "improvement_checkpoints", "transfer", "staleness", "realised", "model", "model_endings"
"""Tables that are merged as the runs have them."""
TABLES = "improvement", "calibration", "gap", "critics", *COPIED
"""The names of all tables."""


class ImprovementRow(NamedTuple):
    """V(λ_k) - V(λ_0) of one run, over states."""

    env: str
    algorithm: str
    settings: str
    seed: int
    iteration: int
    mean: float
    low: float
    high: float


class Bias(NamedTuple):
    """The mean of Q̂ - G in one run, over episodes."""

    env: str
    algorithm: str
    settings: str
    seed: int
    beta: float
    mean: float
    low: float
    high: float


class Critics(NamedTuple):
    """The critics of one run at the end of training: means over its last lines of metrics."""

    env: str
    algorithm: str
    settings: str
    seed: int
    env_steps: int
    """Of the last line."""
    value: float
    """The mean Q̂ of the steps they learned from, in units of reward."""
    disagreement: float
    """The biased std over the ensemble, in units of reward: of two critics half of what they differ by, of one zero."""


class GapRow(NamedTuple):
    """The inference gap of one run and its two parts, means over states."""

    env: str
    algorithm: str
    settings: str
    seed: int
    states: int
    total: float
    approximation: float
    amortisation: float


class State(NamedTuple):
    """The inference gap in one state."""

    total: float
    approximation: float
    amortisation: float


class Reading(NamedTuple):
    """The mean of Q̂ - G for one pessimism."""

    own: str
    """True for that of the agent."""
    beta: float
    mean: float
    low: float
    high: float


R = TypeVar("R", bound=NamedTuple)


def merge(sources: Sequence[Path], name: str, row: type[R], measured: Callable[[OneSeed], list[R]]) -> list[R]:
    """One table of all runs; `measured` reads it from the folder of one seed.

    Raises:
        RejectedInput: neither a run folder nor one that `across_runs.write` made, or its tables cannot be read.
    """

    def of(source: Path) -> list[R]:
        if not made_before(source):
            return [line for seed in seeds_of(source) for line in measured(seed)]
        before = source / f"{name}.csv"
        return labels.read(before, row) if os.path.lexists(before) else []

    return labels.newest(map(of, sources))


def made_before(source: Path) -> bool:
    """Whether a folder is no run but holds tables of some."""
    return not (source / RUN).is_file() and any((source / f"{name}.csv").is_file() for name in TABLES)


def of_seed(seed: OneSeed, name: str, row: type[R]) -> list[R]:
    """A table in the plots of one seed, with its label before each row, or nothing where there is none.

    Raises:
        RejectedInput: the table cannot be read.
    """
    path = seed.path / "plots" / f"{name}.csv"
    return labels.read(path, row, seed.about) if os.path.lexists(path) else []


def gaps(seed: OneSeed) -> list[GapRow]:
    """The mean gap, or nothing where it was not measured. Raises RejectedInput as `of_seed`."""
    rows = of_seed(seed, "gap", State)
    means = [float(np.mean([getattr(row, part) for row in rows])) for part in State._fields if rows]
    return [GapRow(*_label(seed), len(rows), *means)] if rows else []


def improvements(seed: OneSeed) -> list[ImprovementRow]:
    """The improvement by iteration, or nothing where it was not measured. Raises RejectedInput as `of_seed`."""
    return of_seed(seed, "improvement", ImprovementRow)


def biases(seed: OneSeed) -> list[Bias]:
    """The error of Q̂ as the agent reads it, or nothing where it was not measured. Raises RejectedInput as `of_seed`."""
    return [Bias(*_label(seed), *row[1:]) for row in of_seed(seed, "calibration", Reading) if row.own == "True"]


def critics(seed: OneSeed) -> list[Critics]:
    """Value and disagreement at the end, or nothing where the metrics lack them (algorithms without Q̂).

    Raises:
        RejectedInput: its metrics cannot be read.
    """
    lines = deque(RunFolder(seed.path).read_metrics(), LAST)
    names = ("critic/value", "critic/disagreement")
    known = [line for line in lines if all(line.get(name) is not None for name in names)]
    means = [float(np.mean([line[name] for line in known])) for name in names if known]
    return [Critics(*_label(seed), int(known[-1]["env_steps"]), *means)] if known else []


def _label(seed: OneSeed) -> tuple[str, str, str, int]:
    env, algorithm, settings, number = (seed.about[name] for name in labels.LABEL_FIELDS)
    return env, algorithm, settings, int(number)


def copied(source: Path, name: str) -> list[dict[str, str]]:
    """The lines of a table as the seeds of a run have it, by column, with the label of the seed."""
    if made_before(source):
        return labels.read_lines(source / f"{name}.csv")
    seeds = seeds_of(source)
    return [line for seed in seeds for line in labels.read_lines(seed.path / "plots" / f"{name}.csv", seed.about)]


class Measured(NamedTuple):
    """What was measured in some runs."""

    improvement: list[ImprovementRow]
    calibration: list[Bias]
    gap: list[GapRow]
    critics: list[Critics]
    copies: dict[str, list[dict[str, str]]]
    """The lines of the tables of `COPIED`, by column."""

    def lines(self) -> dict[str, list[Mapping[str, Any]]]:
        """Every table by its name, as lines by column."""
        own = {name: [row._asdict() for row in getattr(self, name)] for name in Measured._fields[:-1]}
        return own | self.copies


def read(sources: Sequence[Path]) -> Measured:
    """The tables of all sources. Of a run in several of them, the last counts.

    Raises:
        RejectedInput: neither a run folder nor one that `across_runs.write` made, or its tables cannot be read.
    """
    copies = {}
    for name in COPIED:
        tables = [copied(source, name) for source in sources]
        head = max((tuple(lines[0]) for lines in tables if lines), key=len, default=())
        newest = labels.newest([tuple(line.values()) for line in lines] for lines in tables)
        copies[name] = [dict(zip(head, line, strict=False)) for line in newest]
    return Measured(
        merge(sources, "improvement", ImprovementRow, improvements),
        merge(sources, "calibration", Bias, biases),
        merge(sources, "gap", GapRow, gaps),
        merge(sources, "critics", Critics, critics),
        copies,
    )
