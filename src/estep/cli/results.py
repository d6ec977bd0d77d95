"""Writes the results of a command to stdout, with one JSON object as the last line if --json is given."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import estep
from estep import terminal
from estep.errors import STOPPED, EnvironmentFailure, StorageFailure

if TYPE_CHECKING:
    from estep.plots.over_seeds import OverSeeds

FIELDS = (
    *("status", "run_dir", "env_steps", "updates", "eval_mean", "eval_std", "eval_episodes"),
    *("wall_s", "env_steps_per_s"),
)
"""The fields of every result. A field is null if it is not known."""
ENDINGS = {0: "done", STOPPED: "stopped"}
SHOW_CURSOR = b"\x1b[?25h\n"


def spread(mean: float, std: float) -> str:
    """A mean and a standard deviation of returns for people, without exponents of large numbers.

    Example:
        >>> spread(2825.73, 1402.1), spread(-15.0172, 0.0432)
        ('2825.7 ± 1402', '-15.017 ± 0.043')
    """
    return f"{_figures(mean, 5)} ± {_figures(std, 2)}"


def aligned(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Lines for people whose columns begin below each other, two spaces apart.

    Example:
        >>> aligned([("beta", "1.0", "Pessimism"), ("horizon", "", "Steps")])
        ['  beta     1.0  Pessimism', '  horizon       Steps']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        (indent + "  ".join(f"{cell:{width}s}" for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]


def limits(row: Any) -> str:
    """The limits of an interval, `low` and `high`; nothing where they are NaN, as those of a single number."""
    return "" if row.low != row.low else f"[{row.low:.4g}, {row.high:.4g}]"


def over_seeds(means: Sequence[OverSeeds]) -> list[str]:
    """Means over seeds as lines for people, curve by curve."""
    from estep.plots.labels import labels

    curves = dict.fromkeys(row[:3] for row in means)
    text = []
    for curve in curves:
        name = labels([other[1:] for other in curves if other[0] == curve[0]])[curve[1:]]
        rows = [row for row in means if row[:3] == curve]
        text.append(f"over seeds: {name} on {curve[0]}, mean over so many seeds with its 95 % interval")
        text += aligned([(row.quantity, row.subject, str(row.seeds), f"{row.mean:10.4g}", limits(row)) for row in rows])
    return text


def _figures(value: float, digits: int) -> str:
    """A number with so many digits, or all of them before the point where it has more."""
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text else text


class Results:
    """The only writer of stdout while a command runs. Everything that libraries write to stdout goes to stderr.

    So the JSON object is the last line of stdout, even if an environment prints text or the process is ended.
    """

    def __init__(self, json: bool, verbose: bool) -> None:
        self.json, self.verbose = json, verbose
        self.known: dict[str, Any] = {}
        """The fields that are known so far, in case the command ends early."""
        self.drawing = False
        """Whether a progress bar is shown, which hides the cursor."""
        self.patience: float | None = None
        """Seconds to wait for a reader of stdout that does not read. None waits for ever, as a command that only prints
        must; the results of a run are in its folder too."""
        self._start = time.monotonic()
        self._finished = threading.Lock()
        self._out = -1

    def __enter__(self) -> Self:
        terminal.own(True)
        _flush()
        try:
            self._out = os.dup(1)
            os.dup2(2, 1)
        except OSError:  # stdout is closed; no file that is opened later may get its number
            os.open(os.devnull, os.O_RDONLY)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        terminal.release()  # so that nothing waits for a reader that is gone
        _flush()
        terminal.own(False)
        if self._out >= 0:
            os.dup2(self._out, 1)
            os.close(self._out)
        self._out = -1

    def say(self, text: str) -> None:
        """Write a result as text, except with --json. Raises StorageFailure."""
        if not self.json:
            self._write(_clean(text) + "\n")

    def say_recorded(self, text: str) -> None:
        """As `say` for what a run folder holds too. It is left out if stdout cannot take it: the run has succeeded."""
        with contextlib.suppress(StorageFailure):
            self.say(text)

    def starting(self) -> None:
        """Say on stderr that the command has begun, before JAX is imported, which takes seconds."""
        if "jax" not in sys.modules:
            terminal.say(f"estep {estep.__version__}: starting, importing JAX ...\n")

    def help(self, text: str) -> None:
        """Write a help page, also with --json. Raises StorageFailure."""
        self._write(text.rstrip() + "\n")

    def finish(self, code: int, record: Mapping[str, Any]) -> int:
        """Write the JSON object of a result (code 0 or 75) or of an error. Returns the code."""
        if self.json and self._finished.acquire(blocking=False):
            from estep.runs.strict import dump

            blank = dict.fromkeys(FIELDS) if code in ENDINGS else {}
            wall = {"wall_s": round(time.monotonic() - self._start, 3)}
            head = {"status": ENDINGS[code]} if code in ENDINGS else {"status": "error", "exit_code": code}
            self._write(dump({**blank, **wall, **self.known, **record, **head}).decode() + "\n")
        return code

    def fail(self, code: int, what: str, fix: str = "") -> int:
        """Write an error to stderr, at most two lines, and its JSON object. Returns the code.

        Args:
            code: the exit code.
            what: what is wrong.
            fix: how to fix it.
        """
        what, fix = one_line(what), one_line(fix)
        self._complain(what, fix)
        with contextlib.suppress(StorageFailure):
            self.finish(code, {"error": f"{what} {fix}".strip()})
        return code

    def _complain(self, what: str, fix: str) -> None:
        """Write an error to stderr."""
        terminal.say(_clean(f"estep: {what}\n" + (f"{fix}\n" if fix else "")))

    def last_words(self, code: int, grace: float = 0.0) -> None:
        """The last message before Lifecycle ends the process.

        Args:
            code: the exit code: 75 if the command did not stop in time, 130 after a second interrupt.
            grace: seconds that the command had to stop; 0 for a command that writes no run.
        """
        self._show_cursor()
        run = self.known.get("run_dir", "RUN")
        fix = f"Continue from the last checkpoint with estep resume {run}."
        if code not in ENDINGS:
            what = "Interrupted twice, so the progress after the last checkpoint is lost."
            self._record_ending(code, what)
            self.fail(code, what, fix)
            return
        if grace > 0:
            late = f"The run did not stop within {grace:g} s of the signal, so it was ended"
            what = f"{late}: the progress after the last checkpoint is lost."
            self._record_ending(code, what)
            self._complain(what, fix)
        self.finish(code, {})

    def hang(self, message: str) -> None:
        """End the process because the environment hangs. Another thread calls this."""
        self._show_cursor()
        speaker = threading.Thread(target=self._tell_hang, args=(message,), daemon=True)
        speaker.start()
        speaker.join(0.5)  # a pipe that nobody reads must not block the end of the process
        os._exit(EnvironmentFailure.exit_code)

    def _tell_hang(self, message: str) -> None:
        what, _, fix = message.partition("\n")
        self._record_ending(EnvironmentFailure.exit_code, what)
        self.fail(EnvironmentFailure.exit_code, what, fix)

    def _record_ending(self, code: int, error: str) -> None:
        """Write into run.json how the run of this process ends, if there is one and the disk allows it."""
        if "run_dir" not in self.known:
            return
        from estep.runs.folder import record_ending

        with contextlib.suppress(Exception):
            status = ENDINGS.get(code, "error")
            record_ending(self.known["run_dir"], {"status": status, "exit_code": code, "error": error})

    def _show_cursor(self) -> None:
        if self.drawing:
            with contextlib.suppress(OSError):
                os.write(2, SHOW_CURSOR)

    def _write(self, text: str) -> None:
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        try:
            if self._out >= 0 and self.patience is not None:
                terminal.send(self._out, data, self.patience)
                return
            while self._out >= 0 and data:
                data = data[os.write(self._out, data) :]
        except BrokenPipeError:
            return  # the reader has closed the pipe, as in `estep envs | head`
        except OSError as error:
            what = f"stdout cannot be written: {error.strerror}."
            raise StorageFailure(what, "Free space on the disk to which stdout is written.") from error


def one_line(text: str) -> str:
    """The text as one line of at most 600 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 600 else line[:599] + "…"


def _clean(text: str) -> str:
    """The text with escapes for control characters and for characters that cannot be encoded."""
    printable = "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)
    return printable.encode("utf-8", "backslashreplace").decode()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
