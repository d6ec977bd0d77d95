"""Ending a run whose environment hangs."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable


def leave(message: str) -> None:
    """Say why and end the process with exit code 5: the hung call cannot be interrupted from another thread."""
    print(message, file=sys.stderr, flush=True)
    os._exit(5)


class Watch:
    """Notices a call that takes too long. Set `call` to a new number above 0 before each call and to 0 after it.

    A daemon thread counts polls during which the number stays the same, so that the caller never reads a clock and
    that a process stopped by SIGSTOP is not taken for a hung one. A call that never releases the interpreter lock
    hides from it.
    """

    def __init__(self, timeout: float, name: str, on_hang: Callable[[str], None] = leave, poll: float = 0.5) -> None:
        """timeout and poll in seconds; a timeout of 0 means no limit and no thread."""
        self.call = 0
        self._message = (
            f"The environment {name} has not answered for {timeout:g} s.\n"
            "Look for a deadlock in it, or raise --env-timeout (0: no limit)."
        )
        self._timeout = timeout
        self._on_hang = on_hang
        self._stop = threading.Event()
        if timeout > 0:
            wait = min(poll, timeout / 4)
            threading.Thread(target=_poll, args=(weakref.ref(self), self._stop, wait), daemon=True).start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()

    def hang(self) -> None:
        """Report a hung call."""
        self._on_hang(self._message)

    def allowed_polls(self, wait: float) -> int:
        """Polls of `wait` seconds after which one call has taken too long."""
        return int(self._timeout / wait) + 1


def _poll(reference: weakref.ref[Watch], stop: threading.Event, wait: float) -> None:
    """Count polls of one call. It holds no strong reference, so a forgotten environment is freed and this ends."""
    seen, polls = 0, 0
    while not stop.wait(wait):
        watch = reference()
        if watch is None:
            return
        call = watch.call
        polls = polls + 1 if call and call == seen else 0
        seen = call
        if polls >= watch.allowed_polls(wait) and watch.call == call:
            watch.hang()
            return
        del watch
