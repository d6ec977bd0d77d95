"""Where a command's results go, and how it ends: on the real stdout, with one JSON object last where asked for."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from estep.errors import EnvironmentFailure, StorageFailure

STOPPED = 75
FIELDS = (
    *("status", "run_dir", "env_steps", "updates", "eval_mean", "eval_std", "eval_episodes"),
    *("wall_s", "env_steps_per_s"),
)
"""What every result has, null where it is not known."""
ENDINGS = {0: "done", STOPPED: "stopped"}
SHOW_CURSOR = b"\x1b[?25h\n"


class Results:
    """Owns stdout while a command runs: whatever else is written there, by any library, goes to stderr instead.

    So the JSON object is the last line of stdout however chatty an environment is, and however the process ends.
    """

    def __init__(self, json: bool, verbose: bool) -> None:
        self.json, self.verbose = json, verbose
        self.known: dict[str, Any] = {}
        """Fields known so far, for an end that comes early."""
        self.drawing = False
        """Whether a progress bar has hidden the cursor."""
        self._start = time.monotonic()
        self._said = threading.Lock()
        self._out = -1

    def __enter__(self) -> Self:
        _flush()
        try:
            self._out = os.dup(1)
            os.dup2(2, 1)
        except OSError:  # closed: there is nobody to tell, and no file of ours may get that number
            os.open(os.devnull, os.O_RDONLY)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _flush()
        if self._out >= 0:
            os.dup2(self._out, 1)
            os.close(self._out)
        self._out = -1

    def say(self, text: str) -> None:
        """Write a result for people; with --json there is none. Raises StorageFailure."""
        if not self.json:
            self._write(_clean(text) + "\n")

    def help(self, text: str) -> None:
        """Write a help page, which --json does not change. Raises StorageFailure."""
        self._write(text.rstrip() + "\n")

    def finish(self, code: int, record: Mapping[str, Any]) -> int:
        """End with a result that is not an error, 0 or 75, or with an error's own fields; returns the code."""
        if self.json and self._said.acquire(blocking=False):
            from estep.runs.strict import dump

            blank = dict.fromkeys(FIELDS) if code in ENDINGS else {}
            wall = {"wall_s": round(time.monotonic() - self._start, 3)}
            head = {"status": ENDINGS[code]} if code in ENDINGS else {"status": "error", "exit_code": code}
            self._write(dump({**blank, **wall, **self.known, **record, **head}).decode() + "\n")
        return code

    def fail(self, code: int, what: str, fix: str = "") -> int:
        """End with an error: at most two lines on stderr; returns the code."""
        what, fix = one_line(what), one_line(fix)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(_clean(f"estep: {what}\n" + (f"{fix}\n" if fix else "")))
            sys.stderr.flush()
        with contextlib.suppress(StorageFailure):
            self.finish(code, {"error": f"{what} {fix}".strip()})
        return code

    def last_words(self, code: int) -> None:
        """What Lifecycle says before it ends the process."""
        self._show_cursor()
        if code in ENDINGS:
            self.finish(code, {})
        else:
            self.fail(code, "Interrupted twice: what came after the last checkpoint is lost.", "Resume the run.")

    def hang(self, message: str) -> None:
        """End the process because its environment does not answer; called from another thread."""
        self._show_cursor()
        what, _, fix = message.partition("\n")
        speaker = threading.Thread(target=self.fail, args=(EnvironmentFailure.exit_code, what, fix), daemon=True)
        speaker.start()
        speaker.join(0.5)  # a pipe that nobody reads must not keep a hung process alive
        os._exit(EnvironmentFailure.exit_code)

    def _show_cursor(self) -> None:
        if self.drawing:
            with contextlib.suppress(OSError):
                os.write(2, SHOW_CURSOR)

    def _write(self, text: str) -> None:
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        try:
            while self._out >= 0 and data:
                data = data[os.write(self._out, data) :]
        except BrokenPipeError:
            return  # the reader has seen enough, as in `estep envs | head`
        except OSError as error:
            raise StorageFailure(f"stdout cannot be written: {error.strerror}.", "Free the disk it goes to.") from error


def one_line(text: str) -> str:
    """The text on one line of readable length."""
    line = " ".join(text.split())
    return line if len(line) <= 600 else line[:599] + "…"


def _clean(text: str) -> str:
    """Without what would move a terminal's cursor, or cannot be encoded."""
    kept = "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)
    return kept.encode("utf-8", "backslashreplace").decode()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
