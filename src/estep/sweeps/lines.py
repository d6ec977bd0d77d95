"""The command line of a run: what an engine starts, and what a user can type by hand.

A process of a run writes its JSON object to `SWEEP/logs/<id>.out`, and what it reports to `SWEEP/logs/<id>.err`.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from estep.runs import reading, storage, strict
from estep.runs.folder import CONFIG, RUN
from estep.sweeps.plan import RUNS, Run, resolved

PROGRAM = (sys.executable, "-m", "estep")
"""The command that trains."""
LOGS = "logs"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Added to the environment of a process that has one core."""


class Consent(NamedTuple):
    """What a user allows for all runs when they are resumed."""

    allow_import: bool = False
    allow_drift: bool = False


class Task(NamedTuple):
    """A run as an engine sees it."""

    sweep: Path
    run: Run
    consent: Consent
    steps: int | None = None
    """Environment steps after which its process ends, where that is before or behind those of its plan."""

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return folder_of(self.sweep, self.run.id)

    def log(self, kind: str) -> Path:
        """Its file of stdout (out) or stderr (err)."""
        return self.sweep / LOGS / f"{self.run.id}.{kind}"

    def words(self) -> list[str]:
        """The command line that begins the run, or goes on with it if it has begun."""
        return self.go_on() if (self.folder / RUN).is_file() else self.begin()

    def typed(self) -> str:
        """The same as a user types it."""
        return shlex.join(["estep", *self.words()[len(PROGRAM) :]])

    def begin(self) -> list[str]:
        """The command line that trains."""
        run, until = self.run, {} if self.steps is None else {"steps": self.steps}
        chosen = {**run.settings, **run.values, **until}
        settings = [word for name, value in chosen.items() for word in flag(name, value)]
        head = ["train", run.algorithm, "--env", *run.env, "--preset", run.preset, "--seed", str(run.seed)]
        return [*PROGRAM, *head, *settings, "--run-dir", str(self.folder), "--json"]

    def go_on(self) -> list[str]:
        """The command line that resumes."""
        allowed = [f"--{name.replace('_', '-')}" for name, given in self.consent._asdict().items() if given]
        return [*PROGRAM, "resume", str(self.folder), *self.until(), *allowed, "--json"]

    def until(self) -> list[str]:
        """The flag of the steps that its run is to have, where they are others than those it has begun with."""
        steps = more_steps(self.sweep, self.run) if self.steps is None else self.steps
        return [] if steps is None else flag("steps", steps)

    def open_logs(self) -> tuple[int, int]:
        """Descriptors of new files for stdout and stderr of a process. Those of an earlier process are replaced."""
        storage.make_dir(self.sweep / LOGS)
        paths = self.log("out"), self.log("err")
        for path in paths:
            storage.remove_tree(path)
        return storage.open_new(paths[0]), storage.open_new(paths[1])


def folder_of(sweep: Path, run_id: str) -> Path:
    """The run folder of a run of the plan."""
    return sweep / RUNS / run_id


def more_steps(sweep: Path, run: Run) -> int | None:
    """The steps that the plan gives a run that has begun with fewer; None for every other run."""
    try:
        config: Any = strict.parse(reading.read_path(folder_of(sweep, run.id) / CONFIG, strict.MAX_JSON))
        begun_with = int(config["run"]["steps"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None  # it has not begun, or `estep resume` will say what is wrong with the file
    planned = int(resolved(run)["steps"])
    return planned if planned > begun_with else None


def flag(name: str, value: Any) -> list[str]:
    """A setting as words of the command line.

    Example:
        >>> flag("hidden_sizes", [64, 64]), flag("normalise", False), flag("stop_at", None)
        (['--hidden-sizes', '64', '64'], ['--no-normalise'], ['--stop-at=None'])
    """
    word = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{word}" if value else f"--no-{word}"]
    return [f"--{word}", *map(str, value)] if isinstance(value, list | tuple) else [f"--{word}={value}"]


def environment() -> Mapping[str, str]:
    """The environment variables of a process with one core."""
    return {**os.environ, **ONE_THREAD}
