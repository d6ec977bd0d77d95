"""Stops a run cleanly. A signal sets a flag, and the training loop then saves and stops. A thread limits the wait.

Exit codes: 75 stopped (the run can be resumed), 130 interrupted twice.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from estep.errors import STOPPED

INTERRUPTED = 130
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))
LAST_WORDS = 0.5
"""Seconds for the last message, because writing can block on a pipe that nobody reads."""


def _no_action(code: int) -> None:
    """Print no last message."""


class Lifecycle:
    """In this context SIGTERM, SIGUSR1 and the first SIGINT set `stop_requested`, which the training loop polls.

    A thread receives each signal too, also while the main thread is in a long native call. A second SIGINT ends the
    process with exit code 130. If the context is still open `grace` seconds after the first signal, the thread ends the
    process with 75. It calls `last_words(code)` first. Outside the main thread the context does nothing.
    """

    def __init__(self, last_words: Callable[[int], None] = _no_action, grace: float = 20.0) -> None:
        self.stop_requested = False
        """Whether a signal has asked the run to stop."""
        self._last_words = last_words
        self._grace = grace
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        receiver, sender = socket.socketpair()
        sender.setblocking(False)
        watcher = threading.Thread(target=self._watch, args=(receiver,), name="estep-signals", daemon=True)
        watcher.start()
        self._undo.callback(receiver.close)
        self._undo.callback(watcher.join)
        self._undo.callback(sender.close)  # then the thread reads the end of the stream and ends
        self._undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False))
        for number in SIGNALS:
            previous: Any = signal.signal(number, self._request)
            # None means a handler of C code, which Python cannot restore.
            self._undo.callback(signal.signal, number, signal.SIG_DFL if previous is None else previous)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.stop_requested = True

    def _watch(self, receiver: socket.socket) -> None:
        interrupts, deadline = 0, None
        while True:
            wait = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            if not select.select([receiver], [], [], wait)[0]:
                self.emergency(STOPPED)
            signals = receiver.recv(64)
            if not signals:
                return
            interrupts += signals.count(signal.SIGINT)
            if interrupts > 1:
                self.emergency(INTERRUPTED)
            if deadline is None and any(number in signals for number in SIGNALS):
                deadline = time.monotonic() + self._grace

    def emergency(self, code: int) -> None:
        """Print the last message, for at most half a second, and end the process with this exit code."""
        speaker = threading.Thread(target=self._speak, args=(code,), daemon=True)
        speaker.start()
        speaker.join(LAST_WORDS)
        os._exit(code)

    def _speak(self, code: int) -> None:
        with contextlib.suppress(Exception):
            self._last_words(code)
