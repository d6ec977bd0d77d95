"""Ends a run whose environment hangs."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

from estep import terminal


def end_process(message: str) -> None:
    """Print a message and end the process with exit code 5. A hung call cannot be interrupted from another thread."""
    terminal.say(message + "\n")
    os._exit(5)


def _nothing() -> None:
    """Do nothing before a hung call is reported."""


class Watch:
    """Detects a call that takes too long. The caller sets `call` to a new number above 0 before a call and to 0 after.

    A daemon thread polls the number and counts how often it is unchanged. So the caller never reads a clock, and a
    process that SIGSTOP has paused does not count as hung. A call that holds the interpreter lock is not detected.
    """

    def __init__(
        self, timeout: float, name: str, on_hang: Callable[[str], None] = end_process, poll: float = 0.5
    ) -> None:
        """Start the thread.

        Args:
            timeout: seconds that a call may take; 0 means no limit and no thread.
            name: the environment's name, for the message.
            on_hang: called with the message.
            poll: seconds between two polls.
        """
        self.call = 0
        self.before = _nothing
        """Called before `on_hang`, which may end the process: a run saves what it has learned."""
        self._message = (
            f"The environment {name} has not answered for {timeout:g} s.\n"
            "Look for a deadlock in the environment, or give a larger --env-timeout (0: no limit)."
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
        self.before()
        self._on_hang(self._message)

    def allowed_polls(self, wait: float) -> int:
        """Number of polls, `wait` seconds apart, after which a call has taken too long."""
        return int(self._timeout / wait) + 1


def _poll(reference: weakref.ref[Watch], stop: threading.Event, wait: float) -> None:
    """Count the polls of each call. There is no strong reference, so an unused Watch is freed and the thread ends."""
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
