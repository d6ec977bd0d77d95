"""The replay in a checkpoint. Chunks that did not change are linked, so a save writes only the chunks that changed."""

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
    """A replay that is saved in chunks."""

    @property
    def dirty(self) -> set[int]:
        """Chunks that changed since they were last saved."""

    @property
    def chunks(self) -> int:
        """Number of chunks that hold data. They are numbered from 0."""

    def chunk(self, number: int, /) -> Mapping[str, Array]:
        """The arrays of one chunk."""

    def load_chunk(self, number: int, arrays: dict[str, Array], /) -> None:
        """Load the arrays of one chunk. Raises ValueError if a shape or dtype is wrong."""

    def counters(self) -> Mapping[str, Any]:
        """The replay's numbers as JSON values. Integers may have up to 128 bits."""

    def load_counters(self, counters: dict[str, Any], /) -> None:
        """Load the numbers, after all chunks."""

    def clean(self, numbers: set[int], /) -> None:
        """Mark these chunks as saved, so that they are not dirty."""


def write_replay(temporary: Path, replay: ReplayStore, newest: tuple[Manifest, Path] | None) -> dict[str, Entry]:
    """Write the chunks that changed, and link the others from the newest checkpoint.

    Args:
        temporary: folder of the checkpoint that is being written.
        replay: the replay.
        newest: manifest and folder of the newest checkpoint, or None.

    Returns:
        The manifest's entry of each chunk; a linked chunk keeps the hash that is in the old manifest.
    """
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


def fill(replay: ReplayStore, checkpoint: manifests.Opened) -> None:
    """Load a replay from a verified checkpoint. Raises ValueError, or what the replay raises."""
    counted = checkpoint.manifest.replay
    if counted is None:
        raise ValueError("it has no replay")
    for number in range(counted["chunks"]):
        replay.load_chunk(number, checkpoint.arrays(manifests.chunk_name(number)))
    replay.load_counters(counted["counters"])
    replay.dirty.update(range(counted["chunks"]))
