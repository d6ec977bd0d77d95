"""Builds the disks that a loss of power can leave behind: `make power`, or `python tests/helpers/power.py`.

Every call of a short training that changes the disk is recorded. A loss of power after any of them keeps what was
synced; of the rest any part may be lost: each new name, removed name and renaming for itself, and the end of each file.
On every disk that is drawn a run must find a checkpoint, if one was reported as saved, that is as new as that one and
whole, and its lines up to this step.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import small

ROOT = 0
"""Number of the folder in which the run is written."""


class Disk:
    """Files and folders by number, as they are after some calls, and what of them is not synced."""

    def __init__(self) -> None:
        self.data: dict[int, bytearray] = {}
        self.synced: dict[int, bytes] = {}
        self.names: dict[int, dict[str, int]] = {ROOT: {}}
        self.durable: dict[int, dict[str, int]] = {ROOT: {}}
        self.pending: list[tuple[tuple[int, str | None, int | None], ...]] = []
        """Changes of names that are not synced: (folder, name, file or None), and those of one call together."""

    def apply(self, call: tuple[Any, ...]) -> None:
        """Do one recorded call."""
        kind, *rest = call
        if kind == "make":
            number, folder, parent, name = rest
            if folder:
                self.names[number], self.durable[number] = {}, {}
            else:
                self.data[number], self.synced[number] = bytearray(), b""
            self.change((parent, name, number))
        elif kind == "link":
            number, parent, name = rest
            self.change((parent, name, number))
        elif kind == "write":
            number, data = rest
            self.data[number] += data
        elif kind == "truncate":
            number, size = rest
            del self.data[number][size:]
        elif kind == "rename":
            parent, name, to, new = rest
            number = self.names[parent][name]
            self.change((parent, name, None), (to, new, number))
        elif kind == "unlink":
            parent, name = rest
            self.change((parent, name, None))
        elif rest[0] in self.names:  # fsync of a folder
            self.durable[rest[0]] = dict(self.names[rest[0]])
            self.pending = [left for one in self.pending if (left := tuple(each for each in one if each[0] != rest[0]))]
        else:
            self.synced[rest[0]] = bytes(self.data[rest[0]])

    def change(self, *changes: tuple[int, str, int | None]) -> None:
        """Change names, in one call."""
        for folder, name, number in changes:
            self.names[folder].pop(name, None)
            if number is not None:
                self.names[folder][name] = number
        self.pending.append(changes)

    def after(self, kept: Callable[[], float]) -> tuple[dict[int, dict[str, int]], dict[int, bytes]]:
        """Names and contents after a loss of power. `kept` draws which part of something not synced is kept."""
        names = {number: dict(entries) for number, entries in self.durable.items()}
        for changes in self.pending:
            if kept() >= 0.5:
                for folder, name, number in changes:
                    names[folder].pop(name, None)
                    if number is not None:
                        names[folder][name] = number
        contents = {}
        for number, data in self.data.items():
            old = self.synced[number]
            if bytes(data[: len(old)]) == old:
                contents[number] = bytes(data[: len(old) + round(kept() * (len(data) - len(old)))])
            else:  # it was made shorter
                contents[number] = old if kept() < 0.5 else bytes(data)
        return names, contents


class Recorder:
    """Stands for the module `os` in storage.py, and records what changes the disk."""

    def __init__(self, root: Path) -> None:
        self.root, self.calls = str(root), []
        self.numbers: dict[str, int] = {self.root: ROOT}
        self.open_files: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def place(self, path: Any) -> tuple[int, str]:
        parent, name = os.path.split(str(path))
        return self.numbers[parent], name

    def made(self, path: Any, folder: bool) -> None:
        self.numbers[str(path)] = 1 + len(self.calls)
        self.calls.append(("make", self.numbers[str(path)], folder, *self.place(path)))

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        new = flags & os.O_CREAT and not os.path.lexists(path)
        descriptor = os.open(path, flags, mode)
        if new:
            self.made(path, False)
        if str(path) in self.numbers:
            self.open_files[descriptor] = self.numbers[str(path)]
        return descriptor

    def mkdir(self, path: Any, mode: int = 0o777) -> None:
        os.mkdir(path, mode)
        self.made(path, True)

    def write(self, descriptor: int, data: Any) -> int:
        count = os.write(descriptor, data)
        self.calls.append(("write", self.open_files[descriptor], bytes(data[:count])))
        return count

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        self.calls.append(("truncate", self.open_files[descriptor], offset))
        self.calls.append(("write", self.open_files[descriptor], bytes(data)))
        return os.pwrite(descriptor, data, offset)

    def ftruncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)
        self.calls.append(("truncate", self.open_files[descriptor], size))

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)
        self.calls.append(("fsync", self.open_files[descriptor]))

    def close(self, descriptor: int) -> None:
        self.open_files.pop(descriptor, None)
        os.close(descriptor)

    def rename(self, old: Any, new: Any) -> None:
        os.rename(old, new)
        self.calls.append(("rename", *self.place(old), *self.place(new)))
        for path in [path for path in self.numbers if path == str(old) or path.startswith(f"{old}/")]:
            self.numbers[str(new) + path[len(str(old)) :]] = self.numbers.pop(path)

    def link(self, old: Any, new: Any, follow_symlinks: bool = True) -> None:
        os.link(old, new, follow_symlinks=follow_symlinks)
        self.numbers[str(new)] = self.numbers[str(old)]
        self.calls.append(("link", self.numbers[str(old)], *self.place(new)))

    def rmtree(self, path: Any) -> None:
        """Stands for `shutil.rmtree`: files first, then folders."""
        for folder, _, files in os.walk(path, topdown=False):
            for name in files:
                os.unlink(os.path.join(folder, name))
                self.calls.append(("unlink", *self.place(os.path.join(folder, name))))
            os.rmdir(folder)
            self.calls.append(("unlink", *self.place(folder)))


def recorded(root: Path) -> list[tuple[Any, ...]]:
    """The calls of a training, with ("saved", step) after every save that was reported."""
    from estep.runs import storage
    from estep.training.session import Session

    recorder, save = Recorder(root), Session.save

    def reported(session: Session, best: bool = False) -> None:
        save(session, best)
        recorder.calls.append(("saved", session.trainer.counts.saved))

    shutil_of, own = storage.shutil, type("Shutil", (), {"rmtree": staticmethod(recorder.rmtree)})
    storage.os, storage.shutil, Session.save = recorder, own, reported
    try:
        small.train(root)
    finally:
        storage.os, storage.shutil, Session.save = os, shutil_of, save
    return recorder.calls


def build(place: Path, names: dict[int, dict[str, int]], contents: dict[int, bytes], folder: int = ROOT) -> None:
    """Write a disk."""
    place.mkdir()
    for name, number in names[folder].items():
        if number in names:
            build(place / name, names, contents, number)
        else:
            (place / name).write_bytes(contents[number])


def wrong(place: Path, acknowledged: int) -> str:
    """What a run misses on a disk, or an empty text."""
    from estep.errors import EstepError
    from estep.runs import checkpoint, reading
    from estep.runs.folder import RunFolder

    found = list(place.glob("*/*/*/run.json"))
    try:
        if not found:
            return f"step {acknowledged} was saved, but there is no run" if acknowledged else ""
        with reading.trusting(True):
            folder = RunFolder.open(found[0].parent)
            folder.read_config()
            newest, skipped = checkpoint.newest(folder.path)
            lines = sum(1 for _ in folder.read_metrics())
        step = 0 if newest is None else checkpoint.load(newest, None, None).step
    except EstepError as error:
        return str(error)
    if skipped:
        return f"{skipped[0][0].name} does not verify: {skipped[0][1]}"
    if step < acknowledged:
        return f"step {acknowledged} was saved, but the newest checkpoint is of step {step}"
    due = step // small.CHANGES["log_every"]
    return f"metrics.jsonl has {lines} lines, but {due} belong to step {step}" if lines < due else ""


def disks(calls: list[tuple[Any, ...]], samples: int, seed: int) -> Iterator[tuple[int, int, Any, Any]]:
    """Disks after every number of calls: with nothing, with all, and with drawn parts of what is not synced."""
    chance, disk, acknowledged = random.Random(seed), Disk(), 0
    each = max(1, samples // len(calls))
    for number, call in enumerate(calls, 1):
        if call[0] == "saved":
            acknowledged = call[1]
        else:
            disk.apply(call)
        for kept in (lambda: 0.0, lambda: 1.0, *[chance.random] * each):
            yield number, acknowledged, *disk.after(kept)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000, help="disks to draw, beside those of every call (20000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="CSV to write")
    given = parser.parse_args()
    small.prepare()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        (root := Path(folder, "run")).mkdir()
        calls = recorded(root)
        drawn, failed, seen = 0, [], set()
        for number, acknowledged, names, contents in disks(calls, given.samples, given.seed):
            drawn += 1
            key = hash((acknowledged, json.dumps(names), tuple(contents.items())))
            if key in seen:
                continue
            seen.add(key)
            place = Path(folder, "disk")
            build(place, names, contents)
            if what := wrong(place, acknowledged):
                failed.append(f"after call {number} ({calls[number - 1][0]}): {what}")
                print(failed[-1].replace(str(place), ""), flush=True)
            shutil.rmtree(place)
    row = {"calls": len(calls), "disks": drawn, "different": len(seen), "losses": len(failed)}
    small.report([row], given.out)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
