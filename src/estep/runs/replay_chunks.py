"""The replay's part of a checkpoint: chunks that did not change are linked, so that a save costs what is new."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from estep.runs import manifest as manifests
from estep.runs import storage
from estep.runs.manifest import Entry, Manifest

Array = np.ndarray[Any, Any]


class ReplayStore(Protocol):
    """A replay memory that can be saved by chunks, so that a save costs what is new."""

    dirty: set[int]
    """Chunks that changed since they were last saved."""

    @property
    def chunks(self) -> int:
        """Number of chunks that hold data, numbered from 0."""

    def chunk(self, number: int, /) -> Mapping[str, Array]:
        """The arrays of one chunk."""

    def load_chunk(self, number: int, arrays: dict[str, Array], /) -> None:
        """Take over the arrays of one chunk. Raises ValueError where their shapes or dtypes do not fit."""

    def counters(self) -> Mapping[str, Any]:
        """Numbers of the memory, in JSON's types; integers of up to 128 bits are kept."""

    def load_counters(self, counters: dict[str, Any], /) -> None:
        """Take over the numbers, after every chunk."""

    def clean(self, numbers: set[int], /) -> None:
        """Note that these chunks are saved: they are dirty no longer."""


def write_replay(temporary: Path, replay: ReplayStore, newest: tuple[Manifest, Path] | None) -> dict[str, Entry]:
    """Write the dirty chunks; link the clean ones from the newest checkpoint, with the hash its manifest knows."""
    storage.make_dir(temporary / manifests.REPLAY)
    files: dict[str, Entry] = {}
    old, source = newest or (Manifest(0, 0, {}, None, {}), temporary)
    for number in range(replay.chunks):
        name = manifests.chunk_name(number)
        entry = old.files.get(name)
        if number not in replay.dirty and entry is not None and _has_size(source / name, entry.size):
            storage.link_or_copy(source / name, temporary / name)
            files[name] = entry
        else:
            files[name] = manifests.write_arrays(temporary / name, replay.chunk(number))
    return files


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size == size


def fill(replay: ReplayStore, found: manifests.Opened) -> None:
    """Give a replay what a verified checkpoint holds. Raises ValueError, or what the replay raises."""
    counted = found.manifest.replay
    if counted is None:
        raise ValueError("it holds no replay")
    for number in range(counted["chunks"]):
        replay.load_chunk(number, found.arrays(manifests.chunk_name(number)))
    replay.load_counters(counted["counters"])
    replay.dirty.update(range(counted["chunks"]))
