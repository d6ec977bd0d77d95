"""Files that grow by lines: metrics.jsonl, eval.csv, episodes.csv. A kill costs at most the line being written."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from estep.errors import RejectedInput
from estep.runs import storage, strict


class Lines:
    """An open file that grows by whole lines. Raises StorageFailure where the disk does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = storage.open_append(path)

    def append(self, line: bytes) -> None:
        """Append one line, handed to the system at once: a later kill cannot lose it."""
        storage.append_line(self._open(), self.path, line)

    def read(self) -> list[bytes]:
        """Every line there is."""
        return self.path.read_bytes().splitlines()

    def keep(self, lines: Sequence[bytes]) -> None:
        """Replace the content, atomically."""
        storage.write_atomic(self.path, b"".join(line + b"\n" for line in lines))
        self.close()
        self._descriptor = storage.open_append(self.path)

    def sync(self) -> None:
        """Make every line durable against a power loss: called before a checkpoint that counts on them."""
        storage.sync_file(self._open(), self.path)

    def close(self) -> None:
        """Close the file; twice is no error."""
        if self._descriptor is not None:
            storage.close(self._descriptor)
        self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            raise ValueError(f"{self.path} is closed")
        return self._descriptor


def _kept(
    lines: Lines, content: Sequence[bytes], first: int, env_steps: int, of: Callable[[bytes], float]
) -> list[bytes]:
    kept = []
    for number, line in enumerate(content, first):
        try:
            if of(line) <= env_steps:
                kept.append(line)
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise RejectedInput(
                f"Line {number} of {lines.path} cannot be read: {error}.", "Remove that line, then resume."
            ) from error
    return kept


class JsonLines:
    """metrics.jsonl: one strict JSON object a line; a number that is not finite is written as null."""

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)
        self.sync = self._lines.sync
        self.close = self._lines.close

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one object. Raises StorageFailure."""
        self._lines.append(strict.dump(record))

    def truncate_after(self, env_steps: int) -> None:
        """Keep the lines of at most `env_steps` environment steps: on resume none is then lost or doubled.

        Raises RejectedInput for a line that cannot be read, StorageFailure where the disk does.
        """
        content = self._lines.read()
        self._lines.keep(_kept(self._lines, content, 1, env_steps, lambda line: float(strict.parse(line)["env_steps"])))


def records(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines that may be growing, none where it is missing.

    Raises:
        RejectedInput: a line is no object.
    """
    whole = path.read_bytes().rpartition(b"\n")[0] if path.is_file() else b""  # the last line may be being written
    try:
        found = [strict.parse(line) for line in whole.splitlines()]
    except ValueError as error:
        raise RejectedInput(f"{path} cannot be read: {error}.", "Restore it from a copy.") from error
    if all(isinstance(record, dict) for record in found):
        return found
    raise RejectedInput(f"{path} holds a line that is no JSON object.", "Restore it from a copy.")


class CsvLines:
    """eval.csv and episodes.csv: a header line, then a row a line; a value that is None or not finite is left empty."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._lines = Lines(path)
        self._columns = tuple(columns)
        self.sync = self._lines.sync
        self.close = self._lines.close
        content = self._lines.read()
        if not content:
            self._lines.append(_row(columns))
        elif content[0] != _row(columns):
            raise RejectedInput(
                f"{path} has other columns than {', '.join(columns)}.", "Move that file away, then resume."
            )

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one row, of the columns this file has. Raises KeyError for a missing one, StorageFailure."""
        self._lines.append(_row([_cell(record[name]) for name in self._columns]))

    def truncate_after(self, env_steps: int) -> None:
        """Keep the header and the rows of at most `env_steps` environment steps, as JsonLines does."""
        place = self._columns.index("env_steps")
        header, *rows = self._lines.read()

        def steps(line: bytes) -> float:
            return float(next(csv.reader([line.decode()]))[place])

        self._lines.keep([header, *_kept(self._lines, rows, 2, env_steps, steps)])


def _cell(value: Any) -> str:
    value = strict.plain(value)
    if not isinstance(value, str):
        return "" if value is None else str(value)
    text = "".join(letter if letter.isprintable() else " " for letter in value)
    # A spreadsheet runs a text that begins like a formula.
    return "'" + text if text.startswith(("=", "+", "-", "@")) else text


def _row(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue().encode()


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


def read(
    path: Path, row: type[R], convert: Callable[[dict[str, str]], Mapping[str, str]] = lambda line: line
) -> list[R]:
    """The rows of a file that `write` made of such named tuples, of texts and numbers.

    Args:
        path: the file.
        row: the named tuple, by whose field types the cells are read.
        convert: makes the cells of a row, by column, from those of a line; it may raise ValueError or KeyError.

    Raises:
        RejectedInput: it cannot be read as such rows.
    """
    kinds = get_type_hints(row)
    try:
        with path.open(newline="") as file:
            lines = map(convert, csv.DictReader(file))
            return [row(*(kind(line[name]) for name, kind in kinds.items())) for line in lines]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise RejectedInput(
            f"{path} does not hold {', '.join(kinds)} in every line: {error}.", "Give a file that estep wrote."
        ) from error
