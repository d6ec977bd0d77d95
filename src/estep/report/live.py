"""Keeps the report of a run up to date while the run goes on. A report that cannot be written never ends the run."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable

from estep.errors import describe
from estep.report import page
from estep.runs.folder import RunFolder

SHARE = 0.01
"""Of the run's time that reports may take."""
PATIENCE = 5.0
"""Seconds that the end of a run waits for the last one."""


class LiveReport:
    """Writes report.html in a thread. No method raises an error of the disk or waits for it."""

    def __init__(self, folder: RunFolder, note: Callable[[str], None]) -> None:
        """Write nothing yet.

        Args:
            folder: the run folder.
            note: called with a line for the user, once, if the report cannot be written.
        """
        self._folder, self._note = folder, note
        self._thread: threading.Thread | None = None
        self._due, self._why, self._named = 0.0, "", False

    def update(self) -> None:
        """Write the report, unless the last one is still being written or was so a short time ago."""
        self._name()
        if time.monotonic() < self._due or (self._thread is not None and self._thread.is_alive()):
            return
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._write,), name="estep-report", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait a short time for the last report, and say so if it could not be written."""
        if self._thread is not None:
            self._thread.join(PATIENCE)
            if self._thread.is_alive():
                self._why = self._why or f"it was not written within {PATIENCE:g} s"
        self._name()

    def _name(self) -> None:
        """Say once why the report is not up to date, if it is not."""
        if self._why and not self._named:
            self._named = True
            self._note(f"note     the report is not up to date: {self._why}")

    def _write(self) -> None:
        began = time.monotonic()
        try:
            page.write(self._folder)
        except Exception as error:
            self._why = describe(error)
        self._due = time.monotonic() + (time.monotonic() - began) / SHARE
