"""Writes text for people to stderr.

It is no part of a run: if its reader is gone or slow, or its disk is full, the text is lost and counted, and the run
goes on.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
import time
from collections.abc import Iterator
from typing import Any

PATIENCE = 1.0
"""Seconds to wait for a reader that does not read. After that nothing waits until it reads again."""
PIECE = 4096
"""Bytes that a pipe takes without waiting, if it takes any."""


class _State:
    """What is known about the reader of stderr."""

    lost = 0
    """Texts that were lost since the last one that was not."""
    owned = False
    """Whether stderr belongs to the command line, which may then be replaced if its reader is gone."""


def own(owned: bool) -> None:
    """Say whether this process was started for one command, so that stderr is nobody else's."""
    _State.owned, _State.lost = owned, 0


def say(text: str) -> None:
    """Write text to stderr, or lose it. Nothing is raised, and the wait is short."""
    note = f"({_State.lost} lines for stderr were lost here)\n" if _State.lost else ""
    _State.lost = 0 if _write(note + text, sys.stderr) else _State.lost + 1


def _write(text: str, stream: Any) -> bool:
    """Whether the text was written."""
    original: Any = sys.__stderr__
    try:
        if stream is not original:  # a notebook, or a program that took stderr
            stream.write(text)
            stream.flush()
            return True
        data = text.encode(stream.encoding or "utf-8", "backslashreplace")
        return not send(stream.fileno(), data, 0.0 if _State.lost else PATIENCE)
    except BrokenPipeError:
        if _State.owned:
            release()
        return False
    except Exception:  # a stream of somebody else's may raise anything; None has no write
        return False


def send(descriptor: int, data: bytes | memoryview, patience: float) -> int:
    """Write to a descriptor that may be a pipe which nobody reads.

    Args:
        descriptor: where to.
        data: the bytes.
        patience: seconds to wait for the reader.

    Returns:
        The number of bytes that were not written in that time.

    Raises:
        OSError: as os.write.
    """
    poll, rest, end = select.poll(), memoryview(data), time.monotonic() + patience
    with _never_waiting(descriptor) as writer:
        poll.register(writer, select.POLLOUT)
        while rest and poll.poll(1000 * max(end - time.monotonic(), 0.0)):
            try:
                rest = rest[os.write(writer, rest[:PIECE]) :]
            except BlockingIOError:  # a terminal that takes something, but not this
                if time.monotonic() >= end:
                    break
                time.sleep(0.01)
    return len(rest)


@contextlib.contextmanager
def _never_waiting(descriptor: int) -> Iterator[int]:
    """A descriptor of the same terminal whose writes never wait; of what is no terminal the same descriptor.

    A terminal whose reader does not read takes less than it is given, and then a write waits. The flag for that belongs
    to all programs that share a descriptor, so the terminal is opened once more.
    """
    try:
        opened = os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        yield descriptor
        return
    try:
        yield opened
    finally:
        os.close(opened)


def release() -> None:
    """Replace stdout and stderr by /dev/null where their readers are gone or do not read.

    What an exit handler, a library or an environment prints can then neither fail nor wait.
    """
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            if [event for _, event in poll.poll(0)] != [select.POLLOUT]:
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, descriptor)
                os.close(null)


class Patient(io.TextIOBase):
    """stderr as a file for a progress bar: a part that cannot be written is left out."""

    def __init__(self) -> None:
        """Write to what is stderr now: a bar replaces it while it is shown."""
        self._stream: Any = sys.stderr

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of stderr."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether stderr is a terminal."""
        return bool(self._stream.isatty())

    def fileno(self) -> int:
        """The descriptor of stderr."""
        return int(self._stream.fileno())

    def write(self, text: str) -> int:
        """Write a part of the bar. A bar is drawn again and again, so a lost part is not counted."""
        _write(text, self._stream)
        return len(text)
