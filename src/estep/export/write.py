"""Exports a policy: makes its files, checks what they say against the agent, and only then gives them their name."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import NamedTuple

from estep.core.types import Floats
from estep.errors import UsageError, unknown
from estep.export.contract import Subject
from estep.export.parity import Check, check
from estep.runs import leftovers, storage

FORMATS = {"npz": "numpy_files", "onnx": "onnx_files", "jax": "jax_files"}
"""The modules of this package that make the files of each format."""


class Exported(NamedTuple):
    """A policy that was exported."""

    folder: Path
    sizes: dict[str, int]
    """Bytes of its files by name."""
    check: Check


def export(subject: Subject, form: str, obs: Floats, folder: Path, *, replace: bool) -> Exported:
    """Write a policy into a folder, after a check.

    Args:
        subject: the policy.
        form: npz, onnx or jax.
        obs: observations [n, o] of the check.
        folder: the folder.
        replace: whether a folder of an earlier export is replaced.

    Raises:
        UsageError: an unknown format, a missing package, a folder that is there, or a policy that has no such form.
        NumericHalt: the actions differ. Nothing is left behind.
        StorageFailure: the disk fails.
    """
    check_form(form)
    if folder.exists() and not replace:
        raise UsageError(f"{folder} exists, so nothing was written.", "Give --out the path of a new folder.")
    made = importlib.import_module(f"estep.export.{FORMATS[form]}").made(subject)
    home = next(parent for parent in folder.absolute().parents if parent.is_dir())
    with storage.temporary_dir(home) as temporary:
        for name, data in made.files.items():
            storage.write_new(temporary / name, data)
        result = check(subject, made.opened(temporary), obs, made.program, made.infers)
        storage.make_dir(folder.parent)
        if folder.exists():
            leftovers.retire(folder)
        storage.publish_dir(temporary, folder)
    return Exported(folder, {name: len(data) for name, data in made.files.items()}, result)


def check_form(form: str) -> None:
    """Refuse an unknown format. Raises UsageError."""
    if form not in FORMATS:
        raise unknown("format", form, FORMATS, f"Give one of: {', '.join(FORMATS)}.")
