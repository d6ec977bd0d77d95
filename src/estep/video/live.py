"""Records a run while it goes on. A process of its own does it, so that no context that fails can end the run."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from estep.errors import describe

SHARE = 0.02
"""Of the run's time that recordings may take, after the first one."""
PATIENCE = 60.0
"""Seconds that the end of a run waits for the last recording."""
HELD = 10_000
"""Bytes of what a recording says at its end that are in memory."""


class LiveVideo:
    """Starts `estep record` for the newest checkpoint. No method raises an error of it or waits for it."""

    def __init__(self, run_dir: Path, note: Callable[[str], None]) -> None:
        """Record nothing yet.

        Args:
            run_dir: the run folder.
            note: called with a line for the user, once, if a recording fails.
        """
        self._run_dir, self._note = run_dir, note
        self._process: subprocess.Popen[bytes] | None = None
        self._reader, self._reported = threading.Thread(), bytearray()
        self._start, self._began, self._spent, self._told = time.monotonic(), 0.0, 0.0, False

    def update(self) -> None:
        """Record the newest checkpoint, unless the last recording goes on or recordings have had their share."""
        self._finish()
        if self._process is not None or self._spent > SHARE * (time.monotonic() - self._start):
            return
        command = [sys.executable, "-m", "estep", "record", str(self._run_dir), "--checkpoint", "latest"]
        patient = [nice, "-n", "19"] if (nice := shutil.which("nice")) else []
        try:
            self._process = subprocess.Popen(
                [*patient, *command, "--allow-import"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            self._tell(describe(error))
        else:
            self._reported = bytearray()
            arguments = self._process.stderr, self._reported
            self._reader = threading.Thread(target=_read, args=arguments, name="estep-video", daemon=True)
            self._reader.start()
        self._began = time.monotonic()

    def close(self) -> None:
        """Wait a short time for the last recording."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
        self._finish()

    def _finish(self) -> None:
        """Take note of a recording that has ended."""
        process = self._process
        if process is None or process.poll() is None:
            return
        self._spent += time.monotonic() - self._began
        self._process = None
        self._reader.join(1.0)  # not longer: a process that the recording started may hold the pipe open
        lines = self._reported.decode("utf-8", "replace").strip().splitlines()
        if process.returncode:
            reasons = [line for line in lines if line.startswith("estep: ")]
            self._tell(reasons[-1].removeprefix("estep: ") if reasons else f"it ended with code {process.returncode}")

    def _tell(self, why: str) -> None:
        if not self._told:
            self._told = True
            self._note(f"note     a video was not recorded, and training goes on: {why}")


def _read(pipe: IO[bytes], last: bytearray) -> None:
    """Read a pipe to its end, so that it is never full, and hold the last bytes."""
    with pipe, contextlib.suppress(OSError, ValueError):
        while part := pipe.read1(4096):  # type: ignore[attr-defined]
            last += part
            del last[: max(0, len(last) - HELD)]
