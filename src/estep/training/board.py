"""Numbers for TensorBoard, written by a thread. They are a view of metrics.jsonl: if they cannot be written, they are
dropped and counted, the reason is reported once, and the run goes on."""

from __future__ import annotations

import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from estep.errors import EstepError, describe
from estep.runs import storage
from estep.runs.folder import safe_name

WAITING = 1_000
"""Records that may wait for the disk. Later ones are dropped, so that a disk that hangs takes no memory."""
PATIENCE = 5.0
"""Seconds that the end of a run waits for the last records."""


class Board:
    """The event file of one process, in the folder `tb` of a run. No method raises an error of the disk or waits."""

    def __init__(self, folder: Path, purge: int | None, note: Callable[[str], None]) -> None:
        """Start the thread, which makes the file.

        Args:
            folder: where the file is made.
            purge: TensorBoard hides numbers of earlier files from this step on; None hides none.
            note: called with a line for the user if numbers are lost.
        """
        self.dropped = 0
        """Records that were not written."""
        self._folder, self._note = folder, note
        self._why, self._named, self._busy = "", False, False
        self._waiting: queue.Queue[Event | None] = queue.Queue(WAITING)
        head = encode(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if purge is not None:
            start = SessionLog(status=SessionLog.START)
            head += encode(Event(wall_time=time.time(), step=purge, session_log=start))
        self._thread = threading.Thread(target=self._write, args=(head,), name="estep-tensorboard", daemon=True)
        self._thread.start()

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        """Add numbers at a step of the environments."""
        event = Event(wall_time=time.time(), step=step)
        for name, value in numbers.items():
            event.summary.value.add(tag=name, simple_value=float(value))
        self._put(event)
        if self.dropped and not self._named:
            self._named = True
            self._note(f"note     numbers for TensorBoard are lost: {self._why or 'the disk does not answer'}")

    def close(self) -> None:
        """Wait a little for the last records, and report how many were lost in all."""
        self._put(None)
        self._thread.join(PATIENCE)
        waiting = list(self._waiting.queue) if self._thread.is_alive() else []
        lost = self.dropped + self._busy + sum(event is not None for event in waiting)
        if lost:
            why = self._why or "the disk does not answer"
            self._note(f"note     {lost} records for TensorBoard were lost ({why}); metrics.jsonl has their numbers")

    def _put(self, event: Event | None) -> None:
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self.dropped += 1

    def _write(self, head: bytes) -> None:
        """Write records until there are no more. What failed is tried again with the next record."""
        path = self._folder / f"events.out.tfevents.{time.time_ns()}.{safe_name(socket.gethostname())}"
        descriptor: int | None = None
        while (event := self._waiting.get()) is not None:
            self._busy = True
            try:
                if descriptor is None:
                    storage.make_inner_dir(self._folder)
                    descriptor = storage.open_new(path)
                storage.append(descriptor, path, head + encode(event))
                head = b""
            except EstepError as error:
                self._why, self.dropped = error.what.rstrip("."), self.dropped + 1
            except Exception as error:  # the numbers of a view are not worth a run, whatever goes wrong here
                self._why, self.dropped = describe(error), self.dropped + 1
            self._busy = False
        if descriptor is not None:
            storage.close(descriptor)


def encode(event: Any) -> bytes:
    """An event as a record of a file for TensorBoard: length, data, and a checksum of each."""
    data = event.SerializeToString()
    size = struct.pack("<Q", len(data))
    return b"".join((size, struct.pack("<I", masked_crc32c(size)), data, struct.pack("<I", masked_crc32c(data))))
