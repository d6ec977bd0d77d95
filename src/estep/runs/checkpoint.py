"""Checkpoints: published whole or not at all, verified before use, ordered by a sequence number.

A run's `checkpoints/` holds `step_<step>` folders (`step_<step>-2` where a step was saved again) and, for parameters
that were not finite, `quarantine_step_<step>`. Beside it, the text files `latest` and `best` name one of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from estep.errors import RejectedInput
from estep.runs import manifest as manifests
from estep.runs import storage, strict
from estep.runs.manifest import SUFFIX, Entry, Manifest
from estep.runs.replay_chunks import ReplayStore as ReplayStore
from estep.runs.replay_chunks import fill, write_replay
from estep.settings import renamed

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
"""What a file that lies can provoke in code that reads it; none of them may leave this module."""
_FIX = "Use another checkpoint (estep verify RUN lists the sound ones), or train again."

Array = np.ndarray[Any, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Loaded:
    """What a verified checkpoint held: arrays by file and name, the meta that was saved, environment steps."""

    tensors: Mapping[str, strict.Arrays]
    meta: Mapping[str, Any]
    step: int


def save(
    run_dir: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Array]],
    meta: Mapping[str, Any],
    replay: ReplayStore | None,
    keep: int = 3,
) -> Path:
    """Publish a checkpoint of this step, point `latest` at it, then keep the newest few (0: all); returns its folder.

    Numbers in `meta` that are not finite become null. Where a leaf of `params` is not finite, the checkpoint goes to
    quarantine without the replay, and `latest` and every other checkpoint stay as they are. Chunks that the replay
    calls clean are linked from the newest checkpoint, so one replay belongs to one run folder.
    Raises StorageFailure where the disk fails (earlier checkpoints are intact), TypeError for what cannot be stored.
    """
    folder = Path(run_dir) / FOLDER
    storage.make_dir(folder)
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
        manifests.decode(record)  # what could not be read back must not be published
        storage.write_new(temporary / manifests.NAME, record)
        final = _free_name(folder, f"step_{int(step)}" if finite else f"quarantine_step_{int(step)}")
        storage.publish_dir(temporary, final)
    if finite:
        storage.write_atomic(Path(run_dir) / "latest", final.name.encode() + b"\n")
        if replay is not None:
            replay.clean(set(range(replay.chunks)))
        if keep:
            _prune(Path(run_dir), keep)
    return final


def _write(directory: Path, name: str, arrays: Mapping[str, Array]) -> Entry:
    if not strict.FILE_NAME.fullmatch(name):
        raise TypeError(f"{name!a} cannot be the name of a checkpoint's file")
    return manifests.write_arrays(directory / name, arrays)


def _free_name(folder: Path, name: str) -> Path:
    """The name, with a number where a checkpoint of this step is there already: replacing it would leave a gap."""
    path, count = folder / name, 1
    while path.exists():
        count += 1
        path = folder / f"{name}-{count}"
    return path


def _prune(run_dir: Path, keep: int) -> None:
    """Retire what is older than the newest `keep` that verify, save the best; the newer ones are on the disk by now.

    Chunks are checked by size only: a chunk is one file linked into all of them, so keeping more would not help.
    """
    best, sound = _pointer(run_dir, "best"), 0
    for _, path in _manifests(run_dir / FOLDER)[0]:
        if sound < keep:
            sound += reason_against(path, deep=False) is None
        elif path.name != best:
            storage.retire(path)


def reap(run_dir: Path) -> None:
    """Remove the temporary files of dead processes from a run folder. Raises StorageFailure."""
    storage.reap(Path(run_dir))
    storage.reap(Path(run_dir) / FOLDER)


def _manifests(folder: Path) -> tuple[list[tuple[Manifest, Path]], list[tuple[Path, str]]]:
    """The checkpoints whose manifest is sound, newest first, and the others with the reason."""
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
    """Verify a whole checkpoint, then read it. Raises RejectedInput, and only that, with the reason.

    `expected` gives the shape and dtype of each leaf by file: the files it names must hold exactly those leaves. A
    replay is filled once everything is verified, and counts as dirty from then on: the next save writes it whole,
    since the run folder may hold newer checkpoints of other data.
    """
    path = Path(path)
    try:
        with manifests.opened(path) as found:
            if expected is not None:
                _compare(found.manifest, expected)
            found.check(deep=True)
            names = [name for name in found.manifest.files if not name.startswith(manifests.REPLAY + "/")]
            tensors = {name.removesuffix(SUFFIX): _named_as_today(found.arrays(name)) for name in names}
            if replay is not None:
                fill(replay, found)
    except RejectedInput as error:  # the replay's own refusal, which does not know the path
        raise RejectedInput(f"The checkpoint {path} was rejected: {error.what}", error.fix or _FIX) from error
    except _BAD_INPUT as error:
        raise _rejected(path, error) from error
    return Loaded(tensors, found.manifest.meta, found.manifest.step)


def _compare(manifest: Manifest, expected: Mapping[str, Mapping[str, tuple[tuple[int, ...], Any]]]) -> None:
    """Refuse the first leaf that is missing, extra, reshaped or retyped, by its name."""
    for file, leaves in expected.items():
        if file + SUFFIX not in manifest.files:
            raise ValueError(f"the file {file}{SUFFIX} is missing")
        held = _named_as_today(manifest.files[file + SUFFIX].leaves)
        for name in sorted(set(leaves) ^ set(held)):
            raise ValueError(
                f"the leaf {file}/{name} is {'missing' if name in leaves else 'not one of this algorithm'}"
            )
        for name, (shape, dtype) in leaves.items():
            if held[name] != (tuple(shape), np.dtype(dtype)):
                raise ValueError(
                    f"the leaf {file}/{name} is {held[name][1]}{list(held[name][0])} where this algorithm has "
                    f"{np.dtype(dtype)}{list(shape)}"
                )


def _named_as_today(leaves: Mapping[str, T]) -> dict[str, T]:
    return {renamed.leaf(name): leaf for name, leaf in leaves.items()}


def reason_against(path: Path, deep: bool = True) -> str | None:
    """Why a checkpoint cannot be used, or None; without `deep`, replay chunks are checked by size only."""
    try:
        with manifests.opened(path) as found:
            found.check(deep)
    except _BAD_INPUT as error:
        return _reason(error)
    return None


def newest(run_dir: Path) -> tuple[Path | None, list[tuple[Path, str]]]:
    """The newest checkpoint that verifies, and each one passed over with the reason; None where none was ever made.

    Raises RejectedInput where there are checkpoints and none verifies.
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
            f"No checkpoint of {run_dir} verifies ({reasons}).", "Restore one from a copy, or train again."
        )
    return None, skipped


def at(run_dir: Path, which: str | int) -> Path:
    """The checkpoint that "best", "latest" or a number of steps names, not yet verified; never another one.

    Raises RejectedInput where there is none.
    """
    folder = Path(run_dir) / FOLDER
    if str(which).isdecimal():
        named = [path.name for manifest, path in _manifests(folder)[0] if manifest.step == int(which)]
        name = named[0] if named else f"step_{which}"
    else:
        name = _pointer(Path(run_dir), str(which)) or ""
    if not _PUBLISHED.fullmatch(name) or not (folder / name).is_dir():
        held = ", ".join(path.name for _, path in reversed(_manifests(folder)[0])) or "none yet"
        raise RejectedInput(f"{run_dir} has no checkpoint {which!a}.", f"It has: {held}.")
    return folder / name


def _pointer(run_dir: Path, which: str) -> str | None:
    """The folder that `latest` or `best` names, as data: at most one line of a known shape."""
    if which not in {"latest", "best"}:
        return None
    path = run_dir / which
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > 200:
            return None
        return path.read_text("ascii").strip()
    except (OSError, ValueError):
        return None


def set_best(run_dir: Path, step: int) -> Path:
    """Make `best` name the checkpoint of this step; no prune removes it. Raises RejectedInput, StorageFailure."""
    path = at(run_dir, step)
    storage.write_atomic(Path(run_dir) / "best", path.name.encode() + b"\n")
    return path


def verify(run_dir: Path) -> list[tuple[Path, str | None]]:
    """Every checkpoint of a run, oldest first, with the reason against it or None. Raises RejectedInput without any."""
    sound, broken = _manifests(Path(run_dir) / FOLDER)
    if not sound and not broken:
        raise RejectedInput(f"{run_dir} has no checkpoints.", "Give the folder of a run that has saved one.")
    return [*((path, reason_against(path)) for _, path in reversed(sound)), *broken]
