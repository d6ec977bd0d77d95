"""A worker process as the run sees it: asked, awaited, ended and started again."""

from __future__ import annotations

import contextlib
import json
import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from estep.envs.elsewhere.layout import HEAD
from estep.errors import EnvironmentFailure, UsageError

STARTING = 120.0
"""Seconds in which a process must have imported what it needs."""
CLOSING = 5.0
"""Seconds in which it must have closed its environments."""
POLL = 0.2
PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from estep.envs.elsewhere.child import main; "
    "main(*map(int, sys.argv[2:]))"
)
FIX = "Look at what it wrote, or give --env-workers 0 to step the environments in the run's own process."


class Worker:
    """One process. Its memory has no name, so that nothing is left of it however both processes end."""

    def __init__(self, number: int, timeout: float) -> None:
        self.number, self._timeout = number, timeout
        self.failure: EnvironmentFailure | None = None
        """Why it does not answer any more."""
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process is not None
        return self._process.pid

    def restart(self) -> None:
        """Start the process again, without environments."""
        self.end()
        self.failure = None
        self._start()

    def _start(self) -> None:
        """Start the process. It need not be ready yet."""
        self._connection, other = multiprocessing.Pipe()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        self._size, self._ready = 0, False
        self.reserve(HEAD.itemsize)
        descriptors = other.fileno(), self._file.fileno()
        path = json.dumps([os.path.abspath(folder) for folder in sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, path, str(os.getpid()), *map(str, descriptors)],
            stdin=subprocess.DEVNULL,
            pass_fds=descriptors,
        )
        other.close()

    def reserve(self, size: int) -> tuple[mmap.mmap, int, int]:
        """More shared memory: the memory, where the new part begins, and its whole size."""
        begin = -(-self._size // 64) * 64
        self._size = begin + size
        self._file.truncate(self._size)
        memory = mmap.mmap(self._file.fileno(), self._size)
        self._head = np.frombuffer(memory, HEAD, 1)
        return memory, begin, self._size

    def ask(self, who: str, *request: Any) -> Any:
        """Ask something, and wait for the answer.

        Args:
            who: the environments that the question is about, for messages.
            *request: the name of a method of the process, and its arguments.

        Raises:
            UsageError, EnvironmentFailure: what the process raised; or it has ended, or does not answer.
        """
        self.tell(*request)
        return self.told(who)

    def told(self, who: str) -> Any:
        """Wait for an answer that is a message. Raises as `ask` does. It may have to import packages first."""
        self._wait(who, self._timeout and max(self._timeout, STARTING))
        answer = self._received(who, self._connection.recv)
        if isinstance(answer, tuple) and len(answer) == 3 and answer[0] in ("UsageError", "EnvironmentFailure"):
            raise (UsageError if answer[0] == "UsageError" else EnvironmentFailure)(*answer[1:])
        return answer

    def tell(self, *request: Any) -> None:
        """Send a request. If the process has ended, whoever waits for the answer is told."""
        with contextlib.suppress(OSError):
            self._connection.send_bytes(b"message")
            self._connection.send(request)

    def start_steps(self, place: int) -> None:
        """Let the environments of a place take the steps that are wanted of them."""
        with contextlib.suppress(OSError):
            self._connection.send_bytes(bytes((place,)))

    def finished(self, who: str) -> dict[tuple[str, int], Any]:
        """Wait until steps or a reset are done. Returns the answers that are not in the memory."""
        self._wait(who, self._timeout)
        if not self._received(who, self._connection.recv_bytes):
            return {}
        found: dict[tuple[str, int], Any] = self._received(who, self._connection.recv)
        return found

    def ask_to_close(self) -> None:
        """Let the process close its environments."""
        self.tell("close")

    def end(self) -> None:
        """End the process, when it has closed its environments or has taken too long for that."""
        process, self._process = self._process, None
        if process is None:
            return
        self._connection.close()  # which ends it as soon as it has done what it was asked
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.0 if self.failure else CLOSING)
        process.kill()
        process.wait()
        self._file.close()

    def _received(self, who: str, receive: Any) -> Any:
        try:
            return receive()
        except (EOFError, OSError):
            raise self._failed(f"{self._name(who)} has ended{self._why()}.") from None

    def _wait(self, who: str, limit: float) -> None:
        """Wait for the next message, at most `limit` seconds for a call of an environment. Counting polls, and not
        reading a clock, leaves out time in which this process was stopped."""
        if self.failure is not None:
            raise self.failure
        if not self._ready:
            self._ready = self._connection.poll(STARTING)
            if not self._ready:
                raise self._failed(f"{self._name(who)} has not started within {STARTING:g} s.")
            self._received(who, self._connection.recv)
        wait = min(POLL, limit / 4) if limit else None
        seen, polls = self._head["call"][0], 0
        while not self._connection.poll(wait):
            polls = polls + 1 if self._head["call"][0] == seen else 0
            seen = self._head["call"][0]
            if wait and polls >= round(limit / wait):
                what = f"{self._name(who)} has not answered for {limit:g} s."
                raise self._failed(what, "Look for a deadlock in the environment, or give a larger --env-timeout.")

    def _failed(self, what: str, fix: str = FIX) -> EnvironmentFailure:
        """Remember a failure. The process, which may hang, is ended."""
        self.failure = EnvironmentFailure(what, fix)
        if self._process is not None:
            self._process.kill()
        return self.failure

    def _name(self, who: str) -> str:
        return f"Worker {self.number} of the environments (process {self.pid}; {who})"

    def _why(self) -> str:
        """How the process ended, in words."""
        process, deadline = self._process, time.monotonic() + 1.0
        while process is not None and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        code = None if process is None else process.returncode
        if code is None:
            return ""
        if code >= 0:
            return f" with code {code}"
        with contextlib.suppress(ValueError):
            return f" by {signal.Signals(-code).name}"
        return f" by signal {-code}"
