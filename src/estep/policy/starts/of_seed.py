"""The run with which a new run begins, where a folder of runs is named: the one that has the same seed.

Importing it imports no JAX.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from estep.errors import UsageError
from estep.runs.folder import LATEST, RUN, RunFolder

DEPTH = 5
"""Levels of folders in which runs are looked for: OUT/ALGO/ENV/RUN and one more."""
STARTS = "start_from", "freeze_prior", "freeze_low"
"""Settings of algorithms and of runs that name a run which comes before."""
S = TypeVar("S")


def with_runs(settings: S, seed: int) -> S:
    """An algorithm, or the settings of a run, in which a folder of runs is replaced by the run in it with this seed.

    Raises:
        UsageError: no run in the folder has the seed, or several have it.
        RejectedInput: the configuration of a run in it cannot be read.
    """
    named = {name: path for name in STARTS if (path := getattr(settings, name, "")) and isinstance(path, str)}
    changed: Any = settings
    return replace(changed, **{name: run_of(name, path, seed) for name, path in named.items()}) if named else settings


def run_of(name: str, path: str, seed: int) -> str:
    """What a setting names; of a folder in which there are runs, the run with this seed.

    Raises:
        UsageError: no run in the folder has the seed, or several have it.
        RejectedInput: the configuration of a run in it cannot be read.
    """
    place = Path(path)
    if place.name == LATEST or not place.is_dir() or os.path.lexists(place / RUN):
        return path
    runs = sorted(below(place.absolute()))
    if not runs:
        return path  # it is refused where it is opened
    found = [run for run in runs if seed_of(run) == seed]
    flag = "--" + name.replace("_", "-")
    if not found:
        what = f"{flag} names the folder {path}, in which none of {len(runs)} runs has the seed {seed}."
        raise UsageError(what, f"Train that seed in it, or give the one run that {flag} is to take.")
    if len(found) > 1:
        what = f"{flag} names the folder {path}, in which {len(found)} runs have the seed {seed}: {_listed(found)}."
        raise UsageError(what, "Give one of them, or a folder in which each seed has one run.")
    return str(found[0])


def _listed(runs: list[Path], most: int = 3) -> str:
    return ", ".join(run.name for run in runs[:most]) + (" and others" if len(runs) > most else "")


def seed_of(run: Path) -> Any:
    """The seed of a run folder; None where its configuration names none. Raises RejectedInput."""
    settings = RunFolder.open(run).read_config().get("run")
    return settings.get("seed") if isinstance(settings, dict) else None


def below(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The run folders below a folder. No link is followed."""
    try:
        inside = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    except OSError:
        return
    for path in inside:
        if os.path.lexists(path / RUN):
            yield path
        elif depth > 1:
            yield from below(path, depth - 1)
