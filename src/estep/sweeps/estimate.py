"""What a sweep will take: core-hours, memory and disk, from its finished runs, or from a short measurement.

A measurement trains one run of each algorithm and environment for about a thousand steps, in a temporary folder.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from estep.data.memory import format_bytes
from estep.runs import leftovers, lines
from estep.runs.folder import METRICS
from estep.sweeps import plan, status
from estep.sweeps.lines import Consent, Task
from estep.sweeps.plan import Run

STEPS = 1200
"""Steps of a measurement; a sixth of them is the warm-up."""
UNITS: Mapping[str, float] = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
Kind = tuple[str, tuple[str, ...]]
"""Algorithm and environments."""


class Estimate(NamedTuple):
    """What the runs that are left will take. None where it is not known."""

    left: int
    """Runs that are not done."""
    core_hours: float | None
    memory: float | None
    """Bytes of the largest run."""
    disk: float | None
    """Bytes of all runs that are left."""
    source: str


class Cost(NamedTuple):
    """What one kind of run takes."""

    seconds: float
    """For each environment step."""
    start: float
    """Seconds until the first update."""
    memory: float | None
    disk: float


def estimate(sweep: Path, runs: Sequence[Run]) -> Estimate:
    """What is left of a plan. Without finished runs it measures, which takes a minute or so for each algorithm."""
    states = status.read(sweep, runs)
    left = [run for run, state in zip(runs, states, strict=True) if state.state != status.DONE]
    known: dict[Kind, Cost | None] = {}
    measured = 0
    for run, state in zip(runs, states, strict=True):
        if state.state == status.DONE and state.wall_s and state.env_steps:
            disk = _disk(Task(sweep, run, Consent()).folder)
            known.setdefault(_kind(run), Cost(state.wall_s / state.env_steps, 0.0, None, disk))
    for run in left:
        if _kind(run) not in known:
            known[_kind(run)] = measure(run)
            measured += 1
    costs = [known[_kind(run)] for run in left]
    sound = [cost for cost in costs if cost is not None]
    source = f"{measured} short measurements" if measured else "finished runs"
    if not left or len(sound) < len(costs):
        return Estimate(len(left), 0.0 if not left else None, None, None, source if sound else "nothing is known")
    hours = sum(plan.resolved(r)["steps"] * c.seconds + c.start for r, c in zip(left, sound, strict=True)) / 3600
    memory = max((cost.memory for cost in sound if cost.memory), default=None)
    return Estimate(len(left), hours, memory, sum(cost.disk for cost in sound), source)


def _kind(run: Run) -> Kind:
    return run.algorithm, run.env


def measure(run: Run) -> Cost | None:
    """Train a run for a short while in a temporary folder; None if that fails."""
    replay = plan.resolved(run)["replay_size"]
    short = {"steps": STEPS, "warmup_steps": STEPS // 6, "eval_every": 0, "eval_episodes": 1, "log_every": 100}
    own = {name: value for name, value in {**run.settings, **run.values}.items() if name not in short}
    own.setdefault("replay_size", replay)
    with leftovers.folder_for_a_while() as place:
        task = Task(place, run._replace(settings={**own, **short}, values={}), Consent())
        out, err = task.open_logs()
        process = subprocess.Popen(task.begin(), stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _, code, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
        os.close(out)
        os.close(err)
        if process.returncode:
            return None
        metrics = list(lines.records(task.folder / METRICS))
        replayed = _replay_bytes(task.log("err"))
        return _cost(metrics, usage.ru_maxrss * 1024.0 + replayed, _disk(task.folder) + replayed)


def _cost(metrics: Sequence[Mapping[str, Any]], memory: float, disk: float) -> Cost:
    """The time of a step, from the last half of the lines of a measurement."""
    after = [line for line in metrics if line.get("updates")] or list(metrics)
    first, last = after[len(after) // 2 - 1 if len(after) > 1 else 0], after[-1]
    steps = max(last["env_steps"] - first["env_steps"], 1)
    seconds = (last["wall_s"] - first["wall_s"]) / steps if len(after) > 1 else last["wall_s"] / last["env_steps"]
    return Cost(seconds, max(first["wall_s"] - first["env_steps"] * seconds, 0.0), memory, disk)


def _replay_bytes(log: Path) -> float:
    """The memory of replay, as the run reports it: with all of its steps, not those of the measurement."""
    pattern = re.compile(rb"replay +([\d,]+) transitions = ([\d.]+) (\w+)")
    found = next((match for _, line in lines.whole(log) if (match := pattern.search(line))), None)
    return float(found[2]) * UNITS.get(found[3].decode(), 0) if found else 0.0


def _disk(folder: Path) -> float:
    """Bytes of the files of a folder. A file with several names counts once."""
    sizes = {(s.st_dev, s.st_ino): s.st_size for path in folder.rglob("*") if (s := path.lstat())}
    return float(sum(sizes.values()))


def page(tasks: Sequence[Task], found: Estimate) -> str:
    """The runs as command lines, and what they will take."""

    def amount(value: float | None, text: str) -> str:
        return "not known" if value is None else text

    rows = [task.typed() for task in tasks]
    return "\n".join(
        [
            *rows,
            "",
            f"runs     {len(tasks)}, of which {found.left} are not done",
            f"time     {amount(found.core_hours, f'{found.core_hours or 0:.3g} core-hours')}",
            f"memory   {amount(found.memory, format_bytes(found.memory or 0))} for the largest run",
            f"disk     {amount(found.disk, format_bytes(found.disk or 0))}",
            f"by       {found.source}",
        ]
    )
