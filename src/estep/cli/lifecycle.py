"""Stopping cleanly: signals only set a flag, the loop saves at its next safe point, and a watcher bounds the wait.

Exit codes: 75 stopped (resume me), 130 interrupted twice.
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

STOPPED = 75
INTERRUPTED = 130
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
LAST_WORDS = 0.5
"""Seconds the emergency callback may take: it can block on a pipe that nobody reads."""


def _nothing(code: int) -> None:
    """No last words."""


class Lifecycle:
    """Within this context SIGTERM, SIGUSR1 and the first SIGINT set `stop_requested`; the loop polls it.

    A thread wakes on the signal itself, so it acts even while the main thread is inside a long native call: a second
    SIGINT ends the process with 130, and a first signal that the main thread has not answered by leaving the context
    within `grace` seconds ends it with 75. `last_words(code)` is called before. Outside the main thread it is inert.
    """

    def __init__(self, last_words: Callable[[int], None] = _nothing, grace: float = 20.0) -> None:
        self.stop_requested = False
        """True once a signal asked the run to stop."""
        self._last_words = last_words
        self._grace = grace
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        ears, mouth = socket.socketpair()
        mouth.setblocking(False)
        watcher = threading.Thread(target=self._watch, args=(ears,), name="estep-signals", daemon=True)
        watcher.start()
        self._undo.callback(ears.close)
        self._undo.callback(watcher.join)
        self._undo.callback(mouth.close)  # the watcher reads the end of the stream, and ends
        self._undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False))
        for number in SIGNALS:
            previous: Any = signal.signal(number, self._request)
            # None is a handler that C code installed, which Python cannot put back.
            self._undo.callback(signal.signal, number, signal.SIG_DFL if previous is None else previous)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.stop_requested = True

    def _watch(self, ears: socket.socket) -> None:
        interrupts, deadline = 0, None
        while True:
            wait = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            if not select.select([ears], [], [], wait)[0]:
                self.emergency(STOPPED)
            heard = ears.recv(64)
            if not heard:
                return
            interrupts += heard.count(signal.SIGINT)
            if interrupts > 1:
                self.emergency(INTERRUPTED)
            if deadline is None and any(number in heard for number in SIGNALS):
                deadline = time.monotonic() + self._grace

    def emergency(self, code: int) -> None:
        """Say the last words, within half a second, and end the process at once with this exit code."""
        speaker = threading.Thread(target=self._speak, args=(code,), daemon=True)
        speaker.start()
        speaker.join(LAST_WORDS)
        os._exit(code)

    def _speak(self, code: int) -> None:
        with contextlib.suppress(Exception):
            self._last_words(code)
