"""CSV files, written whole."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from estep.experiment import storage


def write(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Write column names and rows at once; returns the path.

    Raises:
        StorageFailure: the disk is full, read-only or failing.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    storage.write_atomic(path, text.getvalue().encode())
    return path
