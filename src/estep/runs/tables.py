"""Files that grow by lines: metrics.jsonl, eval.csv, episodes.csv. If the process dies, at most one line is lost."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from estep.errors import RejectedInput
from estep.runs import storage, strict


class Lines:
    """An open file that grows by whole lines. Its methods raise StorageFailure if the disk fails."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = storage.open_append(path)

    def append(self, line: bytes) -> None:
        """Append one line. The system gets it at once, so a later kill of the process does not lose it."""
        storage.append_line(self._open(), self.path, line)

    def read(self) -> list[bytes]:
        """All lines."""
        return self.path.read_bytes().splitlines()

    def replace(self, lines: Sequence[bytes]) -> None:
        """Replace the content atomically."""
        storage.write_atomic(self.path, b"".join(line + b"\n" for line in lines))
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


def _lines_until(
    lines: Lines, content: Sequence[bytes], first: int, env_steps: int, of: Callable[[bytes], float]
) -> list[bytes]:
    """The lines of at most `env_steps` environment steps, which the function `of` reads from a line."""
    early = []
    for number, line in enumerate(content, first):
        try:
            if of(line) <= env_steps:
                early.append(line)
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise RejectedInput(
                f"Line {number} of {lines.path} cannot be read: {error}.", "Remove that line, then resume."
            ) from error
    return early


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
        content = self._lines.read()
        self._lines.replace(
            _lines_until(self._lines, content, 1, env_steps, lambda line: float(strict.parse(line)["env_steps"]))
        )


def records(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines, which a run may be writing; an empty list if there is no such file.

    Raises:
        RejectedInput: a line is not a JSON object.
    """
    whole = path.read_bytes().rpartition(b"\n")[0] if path.is_file() else b""  # the last line may be incomplete
    try:
        objects = [strict.parse(line) for line in whole.splitlines()]
    except ValueError as error:
        raise RejectedInput(f"{path} cannot be read: {error}.", "Restore the file from a backup.") from error
    if all(isinstance(record, dict) for record in objects):
        return objects
    raise RejectedInput(f"{path} has a line that is not a JSON object.", "Restore the file from a backup.")


NEW_COLUMNS = ("success",)
"""Columns that files of 0.1.0 do not have. Such a file goes on without them."""


class CsvLines:
    """eval.csv and episodes.csv: a header line, then one row per line. None and non-finite numbers become empty."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._lines = Lines(path)
        self._columns = tuple(columns)
        self.sync = self._lines.sync
        self.close = self._lines.close
        content = self._lines.read()
        before = [name for name in columns if name not in NEW_COLUMNS]
        if not content:
            self._lines.append(_row(columns))
        elif content[0] == _row(before):
            self._columns = tuple(before)
        elif content[0] != _row(columns):
            raise RejectedInput(
                f"The columns of {path} are not {', '.join(columns)}.",
                "Move that file out of the run folder, then resume.",
            )

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one row. Raises KeyError if a column is missing, StorageFailure if the disk fails."""
        self._lines.append(_row([_cell(record[name]) for name in self._columns]))

    def truncate_after(self, env_steps: int) -> None:
        """Remove the rows after `env_steps` environment steps, as JsonLines does. The header stays."""
        place = self._columns.index("env_steps")
        header, *rows = self._lines.read()

        def steps(line: bytes) -> float:
            return float(next(csv.reader([line.decode()]))[place])

        self._lines.replace([header, *_lines_until(self._lines, rows, 2, env_steps, steps)])


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
        with path.open(newline="") as file:
            lines = map(convert, csv.DictReader(file))
            return [row(*(kind(line[name]) for name, kind in kinds.items())) for line in lines]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise RejectedInput(
            f"A line of {path} cannot be read as {', '.join(kinds)}: {error}.", "Give a file that estep wrote."
        ) from error
