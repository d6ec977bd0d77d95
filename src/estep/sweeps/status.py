"""What has become of each run, read from its folder and from the last words of its process. Nothing here is guessed.

`status.json` is this as a file, for people and scripts. No decision depends on it.
"""

from __future__ import annotations

import collections
import contextlib
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from estep.errors import EstepError, StorageFailure
from estep.runs import reading, storage, strict
from estep.runs.folder import METRICS, RUN, holder, is_alive
from estep.sweeps import plan
from estep.sweeps.lines import LOGS, folder_of, more_steps
from estep.sweeps.plan import Run

STATUS = "status.json"
WAITING, RUNNING, STOPPED, FAILED, DONE = "waiting", "running", "stopped", "failed", "done"
STATES = DONE, RUNNING, STOPPED, WAITING, FAILED
LOCKED, STORAGE, INTERRUPTED = 3, 6, 130
GOES_ON = {STORAGE, INTERRUPTED}
"""Exit codes after which the next `estep sweep SWEEP` tries a run again by itself: what was wrong is not of the run."""
TAIL = 1 << 16
"""Bytes at the end of a file in which its last line must be."""


class State(NamedTuple):
    """What has become of a run."""

    id: str
    state: str
    """One of STATES."""
    env_steps: int | None = None
    eval_mean: float | None = None
    wall_s: float | None = None
    exit_code: int | None = None
    error: str | None = None

    @property
    def goes_on(self) -> bool:
        """Whether an engine may start its process without being asked to retry it."""
        return self.state in (WAITING, STOPPED, RUNNING) or (self.state == FAILED and self.exit_code in GOES_ON)


def of(sweep: Path, run_id: str) -> State:
    """The state of one run."""
    folder = folder_of(sweep, run_id)
    record = _table(folder / RUN)
    result: Any = record.get("result")
    numbers: dict[str, Any] = dict.fromkeys(("env_steps", "eval_mean", "wall_s"))
    if isinstance(result, dict):
        numbers = {name: result.get(name) for name in numbers}
    if record.get("status") == DONE:
        return State(run_id, DONE, **numbers, exit_code=0)
    if record and record.get("status") == RUNNING and _is_held(folder):
        return State(run_id, RUNNING, **{**numbers, "env_steps": _steps(folder)})
    if not record and (folder / ".lock").is_file() and _is_held(folder):
        return State(run_id, RUNNING)
    said = strict_line(sweep / LOGS / f"{run_id}.out")
    if said.get("status") == "error" and not _was_locked(said):
        return State(run_id, FAILED, **numbers, exit_code=_code(said), error=str(said.get("error"))[:600])
    if record.get("status") == "error":
        return State(run_id, FAILED, **numbers, exit_code=_code(record), error=str(record.get("error"))[:600])
    if record:
        return State(run_id, STOPPED, **{**numbers, "env_steps": _steps(folder) or numbers["env_steps"]})
    return State(run_id, WAITING)


def read(sweep: Path, runs: Iterable[Run]) -> list[State]:
    """The state of every run, in the order of the plan."""
    return [planned(sweep, run) for run in runs]


def planned(sweep: Path, run: Run) -> State:
    """The state of one run by its plan, which may have got more steps after the run was done."""
    state = of(sweep, run.id)
    more = state.state == DONE and more_steps(sweep, run) is not None
    return state._replace(state=STOPPED, exit_code=None) if more else state


def counts(states: Iterable[State]) -> dict[str, int]:
    """How many runs are in each state."""
    found = collections.Counter(state.state for state in states)
    return {name: found[name] for name in STATES}


def write(sweep: Path, states: Sequence[State]) -> None:
    """Write status.json, if the disk takes it."""
    content = {"counts": counts(states), "runs": [state._asdict() for state in states]}
    with contextlib.suppress(StorageFailure):
        storage.write_atomic(sweep / STATUS, strict.dump(content, indent=1) + b"\n")


def begun(sweep: Path, run: Run) -> bool:
    """Whether a run has a folder with a run in it."""
    return (folder_of(sweep, run.id) / RUN).is_file()


def strict_line(path: Path) -> dict[str, Any]:
    """The JSON object that is the last line of a file; empty if there is none."""
    try:
        value = strict.parse(reading.last_line(path, TAIL))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _table(path: Path) -> dict[str, Any]:
    try:
        value = strict.parse(reading.read_path(path, 1 << 20))
    except (OSError, ValueError, RecursionError, EstepError):
        return {}
    return value if isinstance(value, dict) else {}


def _steps(folder: Path) -> int | None:
    """Environment steps in the last line of the metrics."""
    steps = strict_line(folder / METRICS).get("env_steps")
    return int(steps) if isinstance(steps, int | float) else None


def updates(folder: Path) -> int:
    """Updates in the last line of the metrics; 0 if there is none."""
    count = strict_line(folder / METRICS).get("updates")
    return int(count) if isinstance(count, int | float) else 0


def _is_held(folder: Path) -> bool:
    """Whether the process that holds a run lives; one of another host is believed to."""
    held = holder(folder, 0.0)
    return bool(held) and (held.get("host") != socket.gethostname() or is_alive(held["pid"]))


def _code(record: Mapping[str, Any]) -> int:
    code = record.get("exit_code")
    return code if isinstance(code, int) else 1


def _was_locked(said: Mapping[str, Any]) -> bool:
    """Whether a process ended because another one had the run."""
    return _code(said) == LOCKED and "is being written by process" in str(said.get("error"))


def settings_in_words(run: plan.Run) -> str:
    """The values of the grid, for a table."""
    return " ".join(f"{name}={value}" for name, value in run.values.items())
