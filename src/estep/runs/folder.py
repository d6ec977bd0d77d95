"""A run's folder, `<out>/<algo>/<env>/<YYYYMMDD-HHMMSS>-s<seed>`. One process may write it, any number may read it."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from estep.errors import RejectedInput, nearest
from estep.runs import reading, storage, strict
from estep.runs.checkpoint import reap
from estep.runs.lines import records
from estep.runs.provenance import now
from estep.runs.tables import CsvLines, JsonLines, check_lines

RUN = "run.json"
LATEST = "latest"
CONFIG = "config.json"
DIFF = "config.diff.json"
METRICS = "metrics.jsonl"
EVALUATIONS, EPISODES = "eval.csv", "episodes.csv"
LOCK = ".lock"
MEMBERS = "members"
"""Folder of the seeds of a population, each in a folder of its own."""
VIDEOS = "videos"
"""Folder of what `estep record` makes."""
FILES = (RUN, CONFIG, DIFF, METRICS, EVALUATIONS, EPISODES, LATEST, "best", LOCK)
FOLDERS = ("checkpoints", "plots")
"""What estep reads in a run folder."""
_PATIENCE = 0.5
"""Seconds to wait until the process that holds the lock has written its name. It usually takes a millisecond."""


def member_path(run_dir: Path, member: int) -> Path:
    """The folder of one seed of a population, which are counted from 0."""
    return run_dir / MEMBERS / f"{member:04d}"


def safe_name(text: str) -> str:
    """The text as a folder name: only letters, digits, dot, underscore and dash, and no dot at the start."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".-")[:100] or "env"


class RunFolder:
    """A run's folder on the disk. `create` takes the lock. After `open` the folder is read-only until `lock`.

    Every method raises StorageFailure if the disk fails, and RejectedInput if a file is malformed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        """Absolute path of the folder."""
        self._lock: int | None = None

    @classmethod
    def create(
        cls, out: Path | str, algo: str, env_id: str, seed: int | str, now: datetime, at: Path | None = None
    ) -> Self:
        """Make a new folder, lock it, and write its name into `<out>/<algo>/<env>/latest`.

        Args:
            out: folder of all runs.
            algo, env_id, seed, now: they give the folder its name; a number is added if the name is taken. Of several
                seeds, seed is a text such as 0-15.
            at: the folder itself, as `create_at` makes it; then all others count for nothing.
        """
        if at is not None:
            return cls.create_at(at)
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
    def create_at(cls, path: Path) -> Self:
        """Make and lock the folder of a run at this path. It may exist if a process died before its run began.

        Raises RejectedInput if another process is at it, or if it holds a run or other files.
        """
        path = path.absolute()
        storage.make_dir(path)
        folder = cls(path)
        folder.lock()
        names = set(os.listdir(path)) - {LOCK, CONFIG, DIFF}
        if names:
            folder.close()
            what = f"{path} holds a run" if RUN in names else f"{path} is not empty: it has {min(names)}"
            fix = f"Go on with it: estep resume {path}." if RUN in names else "Give a new folder, or an empty one."
            raise RejectedInput(f"{what}.", fix)
        return folder

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open an existing run folder by its path or by a file `latest`.

        Raises RejectedInput for another folder, and for one with a link or with a file that others may write to.
        """
        path = Path(path).absolute()
        try:
            if path.name == LATEST and path.is_file():
                name = reading.read_path(path, 200).decode("ascii").strip()
                path = path.parent / (name if strict.FILE_NAME.fullmatch(name) else ".")
            sound = (path / RUN).is_file() and not (path / RUN).is_symlink()
        except (OSError, ValueError):
            sound = False
        if not sound:
            fix = _newest(path) or _similar(path) or "Give the folder that estep train printed."
            raise RejectedInput(f"{path} is not a run folder: it has no {RUN}.", fix)
        _check(path)
        return cls(path)

    def lock(self) -> None:
        """Take the lock without waiting, and remove unfinished files of processes that died.

        Raises RejectedInput if another process holds the lock. The message has its number, host and start. The system
        frees the lock when the process ends for any reason.
        """
        if self._lock is not None:
            return
        self._lock = take_lock(self.path)
        reap(self.path)

    def close(self) -> None:
        """Free the lock. A second call does nothing."""
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

    def update_run(self, **fields: Any) -> None:
        """Write fields into run.json, unless it has them."""
        record = self.read_run()
        if any(record.get(name) != strict.parse(strict.dump(value)) for name, value in fields.items()):
            self.write_run({**record, **fields})

    def read_run(self) -> dict[str, Any]:
        """The content of run.json. Raises RejectedInput."""
        return self._read(RUN)

    def write_config(self, config: Mapping[str, Any], diff: Mapping[str, Any]) -> None:
        """Write the configuration, and the settings that differ from the defaults."""
        self._write(CONFIG, config)
        self._write(DIFF, diff)

    def read_config(self) -> dict[str, Any]:
        """The content of config.json. Raises RejectedInput."""
        return self._read(CONFIG)

    def read_diff(self) -> dict[str, Any]:
        """The settings that differ from the defaults. Raises RejectedInput."""
        return self._read(DIFF)

    def metrics(self) -> JsonLines:
        """metrics.jsonl, opened for appending."""
        return JsonLines(self.path / METRICS)

    def read_metrics(self) -> Iterator[dict[str, Any]]:
        """The complete lines of metrics.jsonl; none if there is no such file. Raises RejectedInput."""
        return records(self.path / METRICS)

    def evaluations(self, columns: Sequence[str]) -> CsvLines:
        """eval.csv with these columns (one of them is env_steps), opened for appending."""
        return CsvLines(self.path / EVALUATIONS, columns)

    def episodes(self, columns: Sequence[str]) -> CsvLines:
        """episodes.csv with these columns (one of them is env_steps), opened for appending."""
        return CsvLines(self.path / EPISODES, columns)

    def check_lines(self, evaluations: Sequence[str], episodes: Sequence[str]) -> None:
        """Read the files of lines, before a run goes on with them: their columns are given. Raises RejectedInput."""
        for name, columns in {METRICS: None, EVALUATIONS: evaluations, EPISODES: episodes}.items():
            check_lines(self.path / name, columns)

    def _write(self, name: str, record: Mapping[str, Any]) -> None:
        storage.write_atomic(self.path / name, strict.dump(record, indent=1) + b"\n")

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            value = strict.parse(reading.read_path(path, 1 << 20))
            if not isinstance(value, dict):
                raise ValueError("it is not a table")
        except (OSError, ValueError, RecursionError) as error:
            raise RejectedInput(
                f"{path} cannot be read: {error}.", "Restore the file from a backup, or train again."
            ) from error
        return value


def take_lock(folder: Path) -> int:
    """Take the lock of a folder without waiting. Returns what `storage.close` frees it by.

    Raises RejectedInput if another process holds it. The message has its number, host and start.
    """
    start = datetime.now(UTC).isoformat(timespec="seconds")
    mine = {"pid": os.getpid(), "host": socket.gethostname(), "start": start}
    lock = storage.try_lock(folder / LOCK, strict.dump(mine))
    if lock is None:
        held = holder(folder)
        raise RejectedInput(
            f"{folder} is being written by process {held.get('pid', '?')} on host {held.get('host', '?')}, "
            f"started {held.get('start', '?')}.",
            "Wait until that process ends, or stop it with `kill PID`. Then try again.",
        )
    return lock


def holder(folder: Path, patience: float = _PATIENCE) -> dict[str, Any]:
    """The process that held the lock of a folder last: pid, host and start; empty if it is not known.

    It writes its name after it has the lock, so the file is read again for `patience` seconds while the name is that of
    a process which is gone.
    """
    end = time.monotonic() + patience
    while True:
        try:
            held = strict.parse(reading.read_path(folder / LOCK, 1000))
        except (OSError, ValueError):
            held = None
        sound = isinstance(held, dict) and strict.is_count(held.get("pid"))
        if sound and (held["pid"] == os.getpid() or is_alive(held["pid"])):
            return dict(held)
        if time.monotonic() >= end:
            return dict(held) if sound else {}
        time.sleep(0.02)


def record_ending(path: Path | str, ending: Mapping[str, Any]) -> None:
    """Write into run.json how a run ends whose process is about to be ended, from any thread.

    A run that another process writes, or whose end is recorded already, stays as it is. Raises RejectedInput and
    StorageFailure.
    """
    with reading.trusting(True):  # it is written by this process
        folder = RunFolder.open(path)
    record = folder.read_run()
    if record.get("status") == "running" and holder(folder.path).get("pid") == os.getpid():
        folder.write_run({**record, **ending, "ended": now()})


def is_alive(pid: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(pid, 0)  # no signal is sent
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it belongs to another user
        return True
    return True


def _newest(path: Path) -> str:
    """Where the newest run is, if this folder is the one of an environment."""
    try:
        return f"Give one of the runs in it; the newest is {path / LATEST}." if (path / LATEST).is_file() else ""
    except (OSError, ValueError):  # a path that cannot be
        return ""


def _similar(path: Path) -> str:
    """A question that names the most similar path, where there is no such path; else an empty text."""
    try:
        near = "" if path.exists() else nearest(path.name, (other.name for other in path.parent.iterdir()))
    except (OSError, ValueError):
        near = ""
    return f"Did you mean {path.parent / near}?" if near else ""


def _check(path: Path) -> None:
    """Refuse a run folder with a member that is no regular file, or that others may write to. Raises RejectedInput."""
    try:
        reading.check_mode(path.stat().st_mode, str(path))
        for name in (*FILES, *FOLDERS):
            reading.check_member(path / name, directory=name in FOLDERS)
    except (OSError, ValueError) as error:
        fix = "Make it private, or give --trust-dir if you trust everybody who may write to it."
        if "writable" not in str(error):
            fix = "Give a folder as estep wrote it, with neither links nor other special files."
        raise RejectedInput(f"The run folder {path} was rejected: {error}.", fix) from error
