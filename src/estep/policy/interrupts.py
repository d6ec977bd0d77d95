"""Ctrl-C during a run from Python."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Self


class Interrupts:
    """In this context the first Ctrl-C asks the run to stop, so that it is saved first; a second one ends it at once.

    Outside the main thread, and where the program has a handler of its own, the context does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        """Whether Ctrl-C was pressed."""
        self._installed = False

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._request)
            self._installed = True
        return self

    def __exit__(self, *unused: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def stop(self) -> bool:
        """Whether the run should stop."""
        return self.requested
