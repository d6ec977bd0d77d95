"""Files that grow by lines: metrics.jsonl, eval.csv, episodes.csv. If the process dies, at most one line is lost."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from estep.errors import RejectedInput
from estep.runs import reading, storage, strict
from estep.runs.lines import steps_in, steps_of_object, steps_of_row, whole


class Lines:
    """An open file that grows by whole lines. Its methods raise StorageFailure if the disk fails."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = storage.open_append(path)

    def append(self, line: bytes) -> None:
        """Append one line. The system gets it at once, so a later kill of the process does not lose it."""
        storage.append(self._open(), self.path, line + b"\n")

    def first(self) -> bytes:
        """The first line without its newline, or nothing if there is none."""
        return next(whole(self.path, 1), (0, b""))[1]

    def keep(self, wanted: Iterable[bytes]) -> None:
        """Replace the content atomically by lines, which may come from the file itself."""
        storage.write_atomic(self.path, _blocks(wanted))
        self.close()
        self._descriptor = storage.open_append(self.path)

    def sync(self) -> None:
        """Write all lines to the disk, so that a power failure does not lose them. A checkpoint needs this first."""
        storage.sync_file(self._open(), self.path)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if self._descriptor is not None:
            storage.close(self._descriptor)
        self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            raise ValueError(f"{self.path} is closed")
        return self._descriptor


def _blocks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines with their newlines, joined to pieces that are worth a write."""
    block = bytearray()
    for line in lines:
        block += line + b"\n"
        if len(block) >= storage.PIECE:
            yield bytes(block)
            block.clear()
    yield bytes(block)


class JsonLines:
    """metrics.jsonl: one JSON object per line. A number that is not finite is written as null."""

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)
        self.sync = self._lines.sync
        self.close = self._lines.close

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one object. Raises StorageFailure."""
        self._lines.append(strict.dump(record))

    def truncate_after(self, env_steps: int) -> None:
        """Remove the lines after `env_steps` environment steps. So no line is lost or doubled when a run resumes.

        Raises RejectedInput if a line cannot be read, StorageFailure if the disk fails.
        """
        found = steps_in(self._lines.path, steps_of_object)
        self._lines.keep(each.line for each in found if each.env_steps <= env_steps)


NEW_COLUMNS = ("success",)
"""Columns that files of 0.1.0 do not have. Such a file goes on without them."""


class CsvLines:
    """eval.csv and episodes.csv: a header line, then one row per line. None and non-finite numbers become empty."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._lines = Lines(path)
        self._columns = tuple(columns)
        self.sync = self._lines.sync
        self.close = self._lines.close
        head = self._lines.first()
        if not head:
            self._lines.append(_row(columns))
        else:
            self._columns = known_columns(path, head, columns)

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one row. Raises KeyError if a column is missing, StorageFailure if the disk fails."""
        self._lines.append(_row([_cell(record[name]) for name in self._columns]))

    def truncate_after(self, env_steps: int) -> None:
        """Remove the rows after `env_steps` environment steps, as JsonLines does. The header stays."""
        found = steps_in(self._lines.path, lambda line: steps_of_row(line, self._columns), first=2)
        rows = (each.line for each in found if each.env_steps <= env_steps)
        self._lines.keep(itertools.chain([_row(self._columns)], rows))


def known_columns(path: Path, head: bytes, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of a file with this first line: all of them, or those of 0.1.0. Raises RejectedInput for others."""
    before = tuple(name for name in columns if name not in NEW_COLUMNS)
    for known in (tuple(columns), before):
        if head == _row(known):
            return known
    raise RejectedInput(
        f"The columns of {path} are not {', '.join(columns)}.", "Move that file out of the run folder, then resume."
    )


def check_lines(path: Path, columns: Sequence[str] | None) -> None:
    """Read a file of lines, if there is one, before a run goes on with it.

    Args:
        path: the file.
        columns: those of eval.csv or episodes.csv; None for metrics.jsonl.

    Raises:
        RejectedInput: a line cannot be read.
    """
    if not os.path.lexists(path):
        return
    of, first = steps_of_object, 1
    if columns is not None:
        _, head = next(whole(path, 1), (0, b""))
        known = known_columns(path, head, columns) if head else ()
        of, first = (lambda line: steps_of_row(line, known)), 2
    for _ in steps_in(path, of, first):
        pass


def _cell(value: Any) -> str:
    value = strict.plain(value)
    if not isinstance(value, str):
        return "" if value is None else str(value)
    text = "".join(letter if letter.isprintable() else " " for letter in value)
    # A spreadsheet would execute a text that looks like a formula.
    return "'" + text if text.startswith(("=", "+", "-", "@")) else text


def _row(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue().encode()


MAX_ROWS, MAX_COLUMNS = 100_000, 1_000
"""Of a table that is read as a whole."""
R = TypeVar("R", bound=tuple[Any, ...])


def write(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Write a whole CSV file.

    Args:
        path: the file.
        head: column names.
        rows: the rows, in the order of the columns.

    Returns:
        The path.

    Raises:
        StorageFailure: the disk fails.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    storage.write_atomic(path, text.getvalue().encode())
    return path


def read(
    path: Path, row: type[R], convert: Callable[[dict[str, str]], Mapping[str, str]] = lambda line: line
) -> list[R]:
    """The rows of a file that `write` made.

    Args:
        path: the file.
        row: the type of a row, a named tuple of strings and numbers.
        convert: makes the cells of a row, by column, from those of a line; it may raise ValueError or KeyError.

    Raises:
        RejectedInput: a line of the file is not such a row.
    """
    kinds = get_type_hints(row)
    try:
        return [row(*(kind(line[name]) for name, kind in kinds.items())) for line in map(convert, cells(path))]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise RejectedInput(
            f"A line of {path} cannot be read as {', '.join(kinds)}: {error}.", "Give a file that estep wrote."
        ) from error


def cells(path: Path) -> Iterator[dict[str, str]]:
    """The cells of each row of a CSV file by column, one row at a time.

    Raises:
        OSError, ValueError, csv.Error: it cannot be read, or has too many rows or columns.
    """
    rows = csv.reader(line.decode() for line in reading.lines(path))
    head = next(rows, [])
    if len(head) > MAX_COLUMNS or len(set(head)) != len(head):
        raise ValueError(f"it has a column twice, or more than {MAX_COLUMNS}")
    for number, row in enumerate(filter(None, rows), 1):
        if number > MAX_ROWS:
            raise ValueError(f"it has more than {MAX_ROWS} rows")
        if len(row) != len(head):
            raise ValueError(f"row {number} has {len(row)} cells, but there are {len(head)} columns")
        yield dict(zip(head, row, strict=True))
