"""Copies of run folders, and runs that go on from a copy with other settings.

A run keeps its settings for life. What is to go on with others is another run, which begins as a copy. `run.json` of
the copy lists in `forks` where it came from and what was changed, so that its whole history can be repeated.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from estep.errors import STOPPED, RejectedInput
from estep.runs import reading, storage
from estep.runs.checkpoint import FOLDER
from estep.runs.folder import RUN, RunFolder

FORKS = "forks"
LARGEST = 1 << 32
"""Bytes of a file of lines."""


class Stage(NamedTuple):
    """A part of a run with the same settings."""

    steps: int
    """Environment steps at which it ends."""
    values: Mapping[str, Any]


def copy(source: Path, target: Path) -> None:
    """Copy a run folder in which nothing is written now. The target is there completely or not at all.

    Files of checkpoints never change, so they are linked where the disk can. Raises StorageFailure and RejectedInput.
    """
    source = RunFolder.open(source).path
    storage.make_dir(target.parent)
    with storage.temporary_dir(target.parent) as place:
        for path in sorted(source.rglob("*")):
            inner = path.relative_to(source)
            if any(part.startswith(".") for part in inner.parts):
                continue
            if path.is_dir():
                storage.make_dir(place / inner)
            elif inner.parts[0] == FOLDER:
                storage.link_or_copy(path, place / inner)
            else:
                storage.write_new(place / inner, reading.read_path(path, LARGEST))
        storage.publish_dir(place, target)


def fork(source: Path, target: Path, changes: Mapping[str, Any], steps: int) -> None:
    """Copy a run folder, so that `estep resume TARGET` goes on from its newest checkpoint with other settings.

    Args:
        source: a run folder in which nothing is written now.
        target: the new one, in a folder of the sweep that it belongs to. If it is there, nothing is done.
        changes: settings of the algorithm that shape no array.
        steps: environment steps at which the new run ends.

    Raises:
        RejectedInput: the source cannot be read, or has no such setting.
    """
    if (target / RUN).is_file():
        return
    half = target.parent / f".{target.name}"  # nobody takes it for a run
    storage.remove_tree(half)
    copy(source, half)
    folder = RunFolder.open(half)
    record, config = folder.read_run(), folder.read_config()
    algorithm, run = config["algorithm"], config["run"]
    if unknown := sorted(name for name in changes if name not in algorithm):
        raise RejectedInput(f"The run {source} has no setting {unknown[0]}.", "Choose among its own settings.")
    before = {name: algorithm[name] for name in changes}
    at = (record.get("result") or {}).get("env_steps", 0)
    fork = {"env_steps": at, "source": os.path.relpath(source, target), "before": before, "after": dict(changes)}
    algorithm.update(changes)
    run["steps"] = steps
    folder.write_config(config, {**folder.read_diff(), **changes, "steps": steps})
    status = {"status": "stopped", "exit_code": STOPPED, "error": None}
    folder.write_run({**record, **status, FORKS: [*(record.get(FORKS) or []), fork]})
    storage.rename(half, target)
    storage.sync_dir(target.parent)


def stages(run_dir: Path) -> list[Stage]:
    """The settings of a run that was forked, from its first step to its last. Raises RejectedInput."""
    folder = RunFolder.open(run_dir)
    record = folder.read_run()
    forks = record.get(FORKS) or []
    ends = [int(one["env_steps"]) for one in forks] + [int((record.get("result") or {}).get("env_steps", 0))]
    values = [one["before"] for one in forks] + [one["after"] for one in forks[-1:]]
    return [Stage(*pair) for pair in zip(ends, values or [{}], strict=True)]
