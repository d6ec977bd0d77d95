"""A run's folder: `<out>/<algo>/<env>/<YYYYMMDD-HHMMSS>-s<seed>`, one writer at a time, any number of readers."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from estep.errors import RejectedInput
from estep.runs import storage, strict
from estep.runs.checkpoint import reap
from estep.runs.tables import CsvLines, JsonLines, records

RUN = "run.json"
LATEST = "latest"
CONFIG = "config.json"
DIFF = "config.diff.json"
METRICS = "metrics.jsonl"
LOCK = ".lock"
_PATIENCE = 0.5
"""Seconds to wait for the holder of the lock to have written its name, which takes it a millisecond."""


def safe_name(text: str) -> str:
    """The text as one name of a path: only letters, digits, dot, underscore and dash, not beginning with a dot."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".-")[:100] or "env"


class RunFolder:
    """A run's folder on the disk. `create` takes the lock; `open` only reads until `lock` is called.

    Every method raises StorageFailure where the disk fails, RejectedInput where a file cannot be what it should be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        """Absolute path of the folder."""
        self._lock: int | None = None

    @classmethod
    def create(cls, out: Path | str, algo: str, env_id: str, seed: int, now: datetime) -> Self:
        """Make a fresh folder, locked, and let `<out>/<algo>/<env>/latest` name it. No other run can get the same."""
        parent = Path(out).absolute() / safe_name(algo) / safe_name(env_id)
        name = f"{now:%Y%m%d-%H%M%S}-s{seed}"
        path, count = parent / name, 1
        while not storage.claim_dir(path):
            count += 1
            path = parent / f"{name}-{count}"
        folder = cls(path)
        folder.lock()
        storage.write_atomic(parent / LATEST, path.name.encode() + b"\n", beside=path)
        return folder

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """A folder that is there, by its path or by a `latest` file. Raises RejectedInput if it is not a run's."""
        path = Path(path).absolute()
        try:
            if path.name == LATEST and path.is_file():
                name = _read(path, 200).decode("ascii").strip()
                path = path.parent / (name if strict.FILE_NAME.fullmatch(name) else ".")
            sound = (path / RUN).is_file() and not (path / RUN).is_symlink()
        except (OSError, ValueError):
            sound = False
        if not sound:
            raise RejectedInput(f"{path} is not a run folder: it has no {RUN}.", "Give the folder that a run printed.")
        return cls(path)

    def lock(self) -> None:
        """Become the one writer, at once or not at all, and remove what dead writers left half-written.

        Raises RejectedInput naming the process, host and start of the writer that holds the folder. The lock goes
        with the process, however it dies.
        """
        if self._lock is not None:
            return
        start = datetime.now(UTC).isoformat(timespec="seconds")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "start": start}
        self._lock = storage.try_lock(self.path / LOCK, strict.dump(holder))
        if self._lock is None:
            held = self._holder()
            raise RejectedInput(
                f"{self.path} is being written by process {held.get('pid', '?')} on host {held.get('host', '?')}, "
                f"started {held.get('start', '?')}.",
                "Wait for it, or stop it with SIGTERM, then try again.",
            )
        reap(self.path)

    def _holder(self) -> Mapping[str, Any]:
        """Who holds the lock. It takes the lock before it writes its name, so an empty or dead one is read again."""
        patience = time.monotonic() + _PATIENCE
        while True:
            try:
                held = strict.parse(_read(self.path / LOCK, 1000))
            except (OSError, ValueError):
                held = None
            sound = isinstance(held, dict) and strict.is_count(held.get("pid"))
            if sound and (held["pid"] == os.getpid() or Path(f"/proc/{held['pid']}").exists()):
                return dict(held)
            if time.monotonic() > patience:
                return dict(held) if sound else {}
            time.sleep(0.02)

    def close(self) -> None:
        """Free the lock; twice is no error."""
        if self._lock is not None:
            storage.close(self._lock)
        self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def write_run(self, record: Mapping[str, Any]) -> None:
        """Replace run.json."""
        self._write(RUN, record)

    def read_run(self) -> dict[str, Any]:
        """What run.json says. Raises RejectedInput."""
        return self._read(RUN)

    def write_config(self, config: Mapping[str, Any], diff: Mapping[str, Any]) -> None:
        """Write the resolved configuration, and what of it differs from the defaults."""
        self._write(CONFIG, config)
        self._write(DIFF, diff)

    def read_config(self) -> dict[str, Any]:
        """The resolved configuration. Raises RejectedInput."""
        return self._read(CONFIG)

    def read_diff(self) -> dict[str, Any]:
        """What of the configuration differs from the defaults. Raises RejectedInput."""
        return self._read(DIFF)

    def metrics(self) -> JsonLines:
        """metrics.jsonl, open to append."""
        return JsonLines(self.path / METRICS)

    def read_metrics(self) -> list[dict[str, Any]]:
        """The whole lines of metrics.jsonl, none where it is missing. Raises RejectedInput."""
        return records(self.path / METRICS)

    def evaluations(self, columns: Sequence[str]) -> CsvLines:
        """eval.csv with these columns (env_steps among them), open to append."""
        return CsvLines(self.path / "eval.csv", columns)

    def episodes(self, columns: Sequence[str]) -> CsvLines:
        """episodes.csv with these columns (env_steps among them), open to append."""
        return CsvLines(self.path / "episodes.csv", columns)

    def _write(self, name: str, record: Mapping[str, Any]) -> None:
        storage.write_atomic(self.path / name, strict.dump(record, indent=1) + b"\n")

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            value = strict.parse(_read(path, 1 << 20))
            if not isinstance(value, dict):
                raise ValueError("it is not a table")
        except (OSError, ValueError, RecursionError) as error:
            raise RejectedInput(
                f"{path} cannot be read: {error}.", "Restore it from a copy, or train again."
            ) from error
        return value


def _read(path: Path, limit: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(limit + 1)
    if data is None or len(data) > limit:
        raise ValueError(f"it has more than {limit} bytes")
    return data
