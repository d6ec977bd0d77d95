"""Checkpoints. A checkpoint is written completely or not at all, verified before use, and has a sequence number.

The folder `checkpoints/` of a run has folders `step_<step>`, and `step_<step>-2` if a step was saved twice. A folder
`quarantine_step_<step>` has parameters that are not finite. The text files `latest` and `best` in the run folder name
one checkpoint each.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from estep.errors import RejectedInput
from estep.runs import leftovers, reading, storage, strict
from estep.runs import manifest as manifests
from estep.runs.manifest import SUFFIX, Entry, Manifest
from estep.runs.replay_chunks import ReplayStore as ReplayStore
from estep.runs.replay_chunks import fill, write_replay

FOLDER = "checkpoints"
_PUBLISHED = re.compile(r"step_[0-9]{1,18}(-[0-9]{1,6})?")
_BAD_INPUT = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
    OSError,
)
"""Exceptions that a corrupt or hostile file can cause in code that reads it. None of them may leave this module."""
_FIX = "Use another checkpoint (estep verify RUN lists the good ones), or train again."

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Loaded:
    """The content of a verified checkpoint."""

    tensors: Mapping[str, strict.Arrays]
    """Arrays by file and name."""
    meta: Mapping[str, Any]
    """The JSON values that were saved with it."""
    step: int
    """Environment steps."""


def save(
    run_dir: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Array]],
    meta: Mapping[str, Any],
    replay: ReplayStore | None,
    keep: int = 3,
    best: bool = False,
) -> Path:
    """Write a checkpoint, let `latest` name it, delete old checkpoints, and return the new folder.

    If a leaf of `params` is not finite, the checkpoint goes to quarantine without the replay, and nothing else changes.
    Chunks that did not change are linked from the newest checkpoint, so a replay always needs the same run folder.

    Args:
        run_dir, step: the run folder and the number of environment steps.
        tensors: arrays by file and name.
        meta: JSON values; numbers that are not finite become null.
        replay: the replay to save, or None.
        keep: how many of the newest checkpoints stay; 0 keeps all.
        best: whether `best` shall name it too.

    Raises:
        StorageFailure: the disk fails; earlier checkpoints are intact.
        TypeError: a value cannot be stored.
    """
    folder = Path(run_dir) / FOLDER
    storage.make_inner_dir(folder)
    reap(run_dir)
    known = _manifests(folder)[0]
    sequence = 1 + max((found.sequence for found, _ in known), default=0)
    finite = all(np.isfinite(array).all() for array in tensors.get("params", {}).values() if array.dtype.kind == "f")
    with storage.temporary_dir(folder) as temporary:
        files = {name + SUFFIX: _write(temporary, name + SUFFIX, tensors[name]) for name in sorted(tensors)}
        counted = None
        if replay is not None and finite:
            files.update(write_replay(temporary, replay, known[0] if known else None))
            counted = {"chunks": replay.chunks, "counters": replay.counters()}
        record = manifests.encode(Manifest(sequence, int(step), meta, counted, files))
        manifests.decode(record)  # a checkpoint that cannot be read back must not be published
        storage.write_new(temporary / manifests.NAME, record)
        final = _free_name(folder, f"step_{int(step)}" if finite else f"quarantine_step_{int(step)}")
        storage.publish_dir(temporary, final)
    if finite:
        if replay is not None:
            replay.clean(set(range(replay.chunks)))
        complete(Path(run_dir), final, keep, best)
    return final


def complete(run_dir: Path, path: Path, keep: int, best: bool) -> None:
    """Let `latest` name the newest checkpoint, and `best` if it is the best; then delete old ones.

    A process may be killed before it comes to this, so the next one does it again when it resumes.
    """
    for name in ("latest", "best") if best else ("latest",):
        if _pointer(run_dir, name) != path.name:
            storage.write_atomic(run_dir / name, path.name.encode() + b"\n")
    if keep:
        _prune(run_dir, keep)


def _write(directory: Path, name: str, arrays: Mapping[str, Array]) -> Entry:
    if not strict.FILE_NAME.fullmatch(name):
        raise TypeError(f"{name!a} cannot be the name of a checkpoint's file")
    return manifests.write_arrays(directory / name, arrays)


def _free_name(folder: Path, name: str) -> Path:
    """The path of a new checkpoint. A number is added if the name is taken: replacing a checkpoint is not atomic."""
    path, count = folder / name, 1
    while path.exists():
        count += 1
        path = folder / f"{name}-{count}"
    return path


def _prune(run_dir: Path, keep: int) -> None:
    """Delete the checkpoints that are older than the newest `keep` good ones, except the best checkpoint.

    Only the size of a chunk is checked: it is one file that all checkpoints link, so older ones would not be better.
    """
    best, sound = _pointer(run_dir, "best"), 0
    for _, path in _manifests(run_dir / FOLDER)[0]:
        if sound < keep:
            sound += reason_against(path, deep=False) is None
        elif path.name != best:
            leftovers.retire(path)


def reap(run_dir: Path) -> None:
    """Remove the temporary files of dead processes from a run folder. Raises StorageFailure."""
    leftovers.reap(Path(run_dir))
    leftovers.reap(Path(run_dir) / FOLDER)


def _manifests(folder: Path) -> tuple[list[tuple[Manifest, Path]], list[tuple[Path, str]]]:
    """The checkpoints with a valid manifest, newest first, and the others with what is wrong."""
    sound, broken = [], []
    names = sorted(path for path in folder.iterdir() if _PUBLISHED.fullmatch(path.name)) if folder.is_dir() else []
    for path in names:
        try:
            sound.append((manifests.read(path), path))
        except _BAD_INPUT as error:
            broken.append((path, _reason(error)))
    return sorted(sound, key=lambda item: (item[0].sequence, item[0].step), reverse=True), broken


def _reason(error: BaseException) -> str:
    return (
        str(error) if isinstance(error, ValueError | OSError) else f"its content is malformed ({type(error).__name__})"
    )


def _rejected(path: Path, error: BaseException) -> RejectedInput:
    return RejectedInput(f"The checkpoint {path} was rejected: {_reason(error)}.", _FIX)


def load(
    path: Path,
    expected: Mapping[str, Mapping[str, tuple[tuple[int, ...], Any]]] | None,
    replay: ReplayStore | None,
) -> Loaded:
    """Verify a whole checkpoint, then read it.

    Args:
        path: the checkpoint's folder.
        expected: shape and dtype of each leaf, by file; these files must hold exactly these leaves.
        replay: filled after everything is verified. All its chunks then count as changed, so the next save writes
            them again: the run folder may have newer checkpoints of other data.

    Raises:
        RejectedInput: the checkpoint is corrupt, hostile or does not fit; no other exception leaves this function.
    """
    path = Path(path)
    try:
        with manifests.opened(path) as opened:
            if expected is not None:
                manifests.check_leaves(opened.manifest, expected)
            opened.check(deep=True)
            names = [name for name in opened.manifest.files if not name.startswith(manifests.REPLAY + "/")]
            tensors = {name.removesuffix(SUFFIX): manifests.rename_leaves(opened.arrays(name)) for name in names}
            if replay is not None:
                fill(replay, opened)
    except RejectedInput as error:  # raised by the replay, which does not know the path
        raise RejectedInput(f"The checkpoint {path} was rejected: {error.what}", error.fix or _FIX) from error
    except _BAD_INPUT as error:
        raise _rejected(path, error) from error
    return Loaded(tensors, opened.manifest.meta, opened.manifest.step)


def reason_against(path: Path, deep: bool = True) -> str | None:
    """Why a checkpoint cannot be used, or None. Without `deep`, only the size of replay chunks is checked."""
    try:
        with manifests.opened(path) as opened:
            opened.check(deep)
    except _BAD_INPUT as error:
        return _reason(error)
    return None


def newest(run_dir: Path) -> tuple[Path | None, list[tuple[Path, str]]]:
    """The newest good checkpoint, or None if there are no checkpoints, and the skipped ones with what is wrong.

    Raises RejectedInput if there are checkpoints and none of them is good.
    """
    sound, skipped = _manifests(Path(run_dir) / FOLDER)
    for _, path in sound:
        reason = reason_against(path)
        if reason is None:
            return path, skipped
        skipped.append((path, reason))
    if skipped:
        reasons = "; ".join(f"{path.name}: {reason}" for path, reason in skipped)
        raise RejectedInput(
            f"No checkpoint of {run_dir} can be used ({reasons}).", "Restore one from a backup, or train again."
        )
    return None, skipped


def locate(run_dir: Path, which: str | int) -> Path:
    """The folder of the checkpoint "best", "latest", of a number of steps or of a name, not verified. Before the first
    evaluation the best one is the latest.

    Raises RejectedInput if there is no such checkpoint.
    """
    folder = Path(run_dir) / FOLDER
    if str(which).isdecimal():
        named = [path.name for manifest, path in _manifests(folder)[0] if manifest.step == int(which)]
        name = named[0] if named else f"step_{which}"
    elif _PUBLISHED.fullmatch(str(which)):
        name = str(which)
    else:
        name = _pointer(Path(run_dir), str(which)) or ""
        if which == "best" and not os.path.lexists(Path(run_dir) / "best"):  # a run that ended before an evaluation
            name = _pointer(Path(run_dir), "latest") or ""
    if not _PUBLISHED.fullmatch(name) or not (folder / name).is_dir():
        held = ", ".join(path.name for _, path in reversed(_manifests(folder)[0])) or "none yet"
        raise RejectedInput(f"{run_dir} has no checkpoint {which!a}.", f"Choose one of its checkpoints: {held}.")
    return folder / name


def _pointer(run_dir: Path, which: str) -> str | None:
    """The name in the file `latest` or `best`, if the file is a small regular file."""
    if which not in {"latest", "best"}:
        return None
    try:
        return reading.read_path(run_dir / which, 200).decode("ascii").strip()
    except (OSError, ValueError):
        return None


def set_best(run_dir: Path, step: int) -> Path:
    """Let `best` name the checkpoint of this step, and never delete it. Raises RejectedInput, StorageFailure."""
    path = locate(run_dir, step)
    storage.write_atomic(Path(run_dir) / "best", path.name.encode() + b"\n")
    return path


def verify(run_dir: Path) -> list[tuple[Path, str | None]]:
    """Every checkpoint of a run, oldest first, with what is wrong or None. Raises RejectedInput if there are none."""
    sound, broken = _manifests(Path(run_dir) / FOLDER)
    if not sound and not broken:
        raise RejectedInput(f"{run_dir} has no checkpoints.", "Give the folder of a run that has saved a checkpoint.")
    return [*((path, reason_against(path)) for _, path in reversed(sound)), *broken]
