"""A process beside a run, which ends it where a call of an environment never lets go of the interpreter.

It is started as a program of its own, imports no part of estep, and ends with the process that started it.
"""

import contextlib
import mmap
import os
import select
import signal
import struct
import sys
import time

HEAD = struct.Struct("=Q")
"""How many entries are in use, at the beginning of the shared memory."""
ENTRY = struct.Struct("=Qd240s")
"""One watch: the number of the present call or 0, its limit in seconds, and the name of the environment."""
ENTRIES = 512
SIZE = HEAD.size + ENTRIES * ENTRY.size
POLL = 0.1
"""Seconds between two looks."""
MARGIN = 0.5
"""Seconds beyond the limit, in which the thread of `Watch` comes first: it saves the run."""
TEXT = (
    "The environment {} has not answered for {:g} s, and it does not let go of the Python interpreter, so nothing "
    "could be saved since the last checkpoint.\n"
    "Look for a deadlock in the environment, or give a larger --env-timeout (0: no limit).\n"
)
DEATH = signal.SIGTRAP
"""Its number is the exit code of a failed environment: the watched process lets the C library call `_exit` with it."""


def entry_at(index: int) -> int:
    """Where an entry begins in the shared memory."""
    return HEAD.size + index * ENTRY.size


class Calls:
    """How long the present call of each watch has taken, in time in which the watched process was not stopped."""

    def __init__(self, memory: bytes | mmap.mmap) -> None:
        self._memory = memory
        self._seen: dict[int, tuple[int, float]] = {}

    def late(self, passed: float) -> str:
        """Count the time that has passed. Returns the message if a call takes too long, else an empty string."""
        (used,) = HEAD.unpack_from(self._memory)
        for index in range(min(used, ENTRIES)):
            call, limit, name = ENTRY.unpack_from(self._memory, entry_at(index))
            before, spent = self._seen.get(index, (0, 0.0))
            spent = spent + passed if call and call == before else 0.0
            self._seen[index] = call, spent
            if limit > 0 and spent > limit + MARGIN:
                return TEXT.format(name.rstrip(b"\0").decode("utf-8", "replace"), limit)
        return ""


def stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal. Where the system has no /proc, it never is."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[:1] in ([b"T"], [b"t"])
    except OSError:
        return False


def end(pid: int, message: str) -> None:
    """End the process, then say why."""
    for number in (DEATH, signal.SIGKILL):
        with contextlib.suppress(OSError):
            os.kill(pid, number)
        if select.select([0], [], [], 0.3)[0]:  # the process is gone, and with it the other end of this pipe
            break
    os.set_blocking(2, False)
    with contextlib.suppress(OSError):
        os.write(2, message.encode())


def main() -> None:
    """Watch the process that started this one. The shared memory is the file of the given number."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a scheduler signals every process; this one ends with the run
    pid, memory = os.getppid(), mmap.mmap(int(sys.argv[1]), SIZE)
    calls, before = Calls(memory), time.monotonic()
    while not select.select([0], [], [], POLL)[0] and os.getppid() == pid:
        now = time.monotonic()
        passed = 0.0 if stopped(pid) else min(now - before, 2 * POLL)  # this process may have been stopped too
        message, before = calls.late(passed), now
        if message:
            end(pid, message)
            return


if __name__ == "__main__":
    main()
