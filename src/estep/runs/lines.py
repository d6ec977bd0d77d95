"""Reads the files of a run that grow by lines. They are read one line at a time, so that they take little memory."""

from __future__ import annotations

import csv
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from estep.errors import RejectedInput, describe
from estep.runs import reading, strict


def whole(path: Path, most: int = reading.MAX_LINES) -> Iterator[tuple[int, bytes]]:
    """Number and content of each of the first complete lines. The last line of a file may be incomplete."""
    try:
        for number, line in enumerate(itertools.islice(reading.lines(path), most), 1):
            if line.endswith(b"\n"):
                yield number, line.rstrip(b"\r\n")
    except (OSError, ValueError) as error:
        raise RejectedInput(f"{path} cannot be read: {error}.", "Restore the file from a backup.") from error


NUMBERS = {
    *("env_steps", "updates", "mean", "std", "episodes", "min", "max", "wall_s", "success"),
    *("env", "episode", "return", "length"),
}
"""The columns of eval.csv and episodes.csv that hold numbers."""


class Steps(NamedTuple):
    """A line, and the environment steps that it tells."""

    line: bytes
    env_steps: float


def steps_in(path: Path, of: Callable[[bytes], float], first: int = 1) -> Iterator[Steps]:
    """The lines of a file from line `first` on, one at a time.

    Args:
        path: the file.
        of: reads the environment steps from a line; it raises ValueError, KeyError or TypeError if it cannot.
        first: number of the first line.

    Raises:
        RejectedInput: a line cannot be read.
    """
    for number, line in whole(path):
        if number >= first:
            try:
                yield Steps(line, of(line))
            except (ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
                raise RejectedInput(
                    f"Line {number} of {path} cannot be read: {describe(error)}.", "Remove that line, then resume."
                ) from error


def steps_of_object(line: bytes) -> float:
    """The environment steps in a line of metrics.jsonl."""
    record = strict.parse(line, reading.MAX_LINE)
    if not isinstance(record, dict) or type(record["env_steps"]) not in (int, float):
        raise ValueError("it is not an object with a number env_steps")
    return float(record["env_steps"])


def steps_of_row(line: bytes, columns: Sequence[str]) -> float:
    """The environment steps in a line of eval.csv or episodes.csv. Its numbers may be empty."""
    cells = next(csv.reader([line.decode()]), [])
    if len(cells) != len(columns):
        raise ValueError(f"it has {len(cells)} cells, but there are {len(columns)} columns")
    numbers = {name: _number(cell) for name, cell in zip(columns, cells, strict=True) if name in NUMBERS}
    if not math.isfinite(numbers["env_steps"]):
        raise ValueError("it has no number env_steps")
    return numbers["env_steps"]


def _number(cell: str) -> float:
    if len(cell) > strict.MAX_DIGITS:
        raise ValueError("it has a number that is too long")
    return float({"": "nan", "True": "1", "False": "0"}.get(cell, cell))


def records(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines, which a run may be writing; none if there is no such file.

    Raises:
        RejectedInput: a line is not a JSON object.
    """
    for number, line in whole(path) if os.path.lexists(path) else ():
        try:
            record = strict.parse(line, reading.MAX_LINE)
        except (ValueError, RecursionError) as error:
            what = f"Line {number} of {path} cannot be read: {error}."
            raise RejectedInput(what, "Restore the file from a backup.") from error
        if not isinstance(record, dict):
            what = f"{path} has a line that is not a JSON object: line {number}."
            raise RejectedInput(what, "Restore the file from a backup.")
        yield record
