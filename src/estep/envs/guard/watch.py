"""Ends a run whose environment hangs."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import mmap
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from estep import terminal
from estep.envs.guard import watchdog

T = TypeVar("T")
RESCUE = 120.0
"""Seconds for saving the run after a hang."""
RESCUING = 2**63
"""The number of the call, for the watchdog, while the run is saved."""


def end_process(message: str) -> None:
    """Print a message and end the process with exit code 5. A hung call cannot be interrupted from another thread."""
    terminal.say(message + "\n")
    os._exit(5)


def _nothing() -> None:
    """Do nothing before a hung call is reported."""


class Watch:
    """Detects a call that takes too long. The caller sets `call` to a new number above 0 before a call and to 0 after.

    A daemon thread polls the number and counts how often it is unchanged. So the caller never reads a clock, and a
    process that SIGSTOP has paused does not count as hung. On Linux a process beside this one, the watchdog, reads the
    same number: it ends this process if a call holds the interpreter lock, so that the thread cannot run.
    """

    def __init__(
        self, timeout: float, name: str, on_hang: Callable[[str], None] = end_process, poll: float = 0.2
    ) -> None:
        """Start the thread.

        Args:
            timeout: seconds that a call may take; 0 means no limit and no thread.
            name: the environment's name, for the message.
            on_hang: called with the message.
            poll: seconds between two polls.
        """
        self.before = _nothing
        """Called before `on_hang`, which may end the process: a run saves what it has learned."""
        self._message = (
            f"The environment {name} has not answered for {timeout:g} s.\n"
            "Look for a deadlock in the environment, or give a larger --env-timeout (0: no limit)."
        )
        self._name, self._timeout, self._calls = name, timeout, 0
        self._on_hang = on_hang
        self._stop = threading.Event()
        self._entry = _Entry()
        self._numbers = self._entry.numbers
        if timeout > 0:
            self._entry = _dog().entry(timeout, name)
            self._numbers = self._entry.numbers
            wait = min(poll, timeout / 4)
            threading.Thread(target=_poll, args=(weakref.ref(self), self._stop, wait), daemon=True).start()
        weakref.finalize(self, self._entry.free)
        _watches.add(self)

    @property
    def call(self) -> int:
        """The number of the present call; 0 between calls."""
        return self._numbers[0]

    @call.setter
    def call(self, number: int) -> None:
        self._numbers[0] = number

    def run(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Call a function while the time is measured."""
        self._calls += 1
        self.call = self._calls
        try:
            return function(*arguments, **named)
        finally:
            self.call = 0

    def close(self) -> None:
        """End the thread. Later calls are not watched."""
        self._stop.set()
        self.leave()
        self._entry.free()

    def leave(self) -> None:
        """Let nobody else read the numbers of calls any more."""
        self._numbers = _private()

    def hang(self) -> None:
        """Report a hung call. The watchdog waits as long as saving may take."""
        self._entry.limit(RESCUE, self._name)
        self.call = RESCUING
        self.before()
        self._on_hang(self._message)
        self.close()

    def allowed_polls(self, wait: float) -> int:
        """Number of polls, `wait` seconds apart, after which a call has taken too long."""
        return max(1, round(self._timeout / wait))


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


def _private() -> memoryview:
    """A number that nobody else reads."""
    return memoryview(bytearray(8)).cast("Q")


class _Entry:
    """The numbers of one watch, which the watchdog reads; or numbers that nobody else reads."""

    def __init__(self, memory: mmap.mmap | None = None, index: int = 0, free: list[int] | None = None) -> None:
        self._memory, self._index, self._free = memory, index, free
        start = watchdog.entry_at(index)
        self.numbers = _private() if memory is None else memoryview(memory)[start : start + 8].cast("Q")

    def limit(self, timeout: float, name: str) -> None:
        """Set the limit of a call in seconds, and the name of the environment."""
        if self._memory is not None:
            text = name.encode()[:240]
            watchdog.ENTRY.pack_into(self._memory, watchdog.entry_at(self._index), self.numbers[0], timeout, text)

    def free(self) -> None:
        """Leave the entry to another watch. A call that goes on is not watched any more."""
        self.limit(0.0, "")
        self._memory, self.numbers[0] = None, 0
        if self._free is not None:
            self._free.append(self._index)
            self._free = None


class _Dog:
    """The watchdog of this process, and the memory that both see."""

    def __init__(self) -> None:
        """Start it. Where that is impossible, entries are read by nobody else."""
        self._memory: mmap.mmap | None = None
        self._free: list[int] = []
        self._used = 0
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(Exception):  # no Linux, no process left, or estep in an archive
            self._start()

    def _start(self) -> None:
        if signal.getsignal(watchdog.DEATH) != signal.SIG_DFL or not sys.executable:
            return
        descriptor = os.memfd_create("estep-watchdog")
        try:
            os.ftruncate(descriptor, watchdog.SIZE)
            memory = mmap.mmap(descriptor, watchdog.SIZE)
            # The signal is handled by C code, which needs no lock. The number of the signal becomes the exit code.
            library = ctypes.CDLL(None)
            library.signal.argtypes, library.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
            library.signal(watchdog.DEATH, ctypes.cast(library._exit, ctypes.c_void_p))
            program = str(Path(watchdog.__file__))
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", program, str(descriptor)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=(descriptor,),
            )
        finally:
            os.close(descriptor)
        self._memory = memory

    def entry(self, timeout: float, name: str) -> _Entry:
        """An entry for one more watch."""
        if self._memory is None or (not self._free and self._used == watchdog.ENTRIES):
            return _Entry()
        if not self._free:
            self._free.append(self._used)
            self._used += 1
        entry = _Entry(self._memory, self._free.pop(), self._free)
        entry.limit(timeout, name)
        watchdog.HEAD.pack_into(self._memory, 0, self._used)
        return entry

    def leave(self) -> None:
        """Let the watchdog end: its standard input ends."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.returncode = self._process.returncode or 0  # it ends by itself, and nobody waits for it


_dogs: list[_Dog] = []
_watches: weakref.WeakSet[Watch] = weakref.WeakSet()
_lock = threading.Lock()


def _dog() -> _Dog:
    """The watchdog of this process, started at the first call."""
    with _lock:
        if not _dogs:
            _dogs.append(_Dog())
        return _dogs[0]


def _leave() -> None:
    while _dogs:
        _dogs.pop().leave()


def _forked() -> None:
    """Leave the watchdog to the parent, in a child."""
    _leave()
    for watch in list(_watches):
        watch.leave()


atexit.register(_leave)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
UNWATCHED = Watch(0.0, "")
"""For calls without a limit."""
