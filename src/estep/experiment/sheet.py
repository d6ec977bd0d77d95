"""CSV files, written whole, and read back as the rows that they were."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from estep.errors import RejectedInput
from estep.experiment import storage

R = TypeVar("R", bound=tuple[Any, ...])


def write(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Write column names and rows at once; returns the path.

    Raises:
        StorageFailure: the disk is full, read-only or failing.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    storage.write_atomic(path, text.getvalue().encode())
    return path


def read(path: Path, row: type[R]) -> list[R]:
    """The rows of a file that `write` made of such named tuples, of texts and numbers.

    Raises:
        RejectedInput: it cannot be read as such rows.
    """
    kinds = get_type_hints(row)
    try:
        with path.open(newline="") as file:
            return [row(*(kind(line[name]) for name, kind in kinds.items())) for line in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RejectedInput(
            f"{path} does not hold {', '.join(kinds)} in every line: {error}.", "Give a file that estep wrote."
        ) from error
