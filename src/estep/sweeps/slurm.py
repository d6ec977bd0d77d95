"""Runs as one array job of SLURM. A time limit or a preemption stops a run, which saves, and its job is queued again.

A run has the number of its place in the plan as its index in the array, and the jobs of a sweep have one name: so what
is queued is known from SLURM alone, whatever became of the process that submitted it.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from estep.errors import UsageError
from estep.runs import storage
from estep.sweeps import lines, plan
from estep.sweeps.lines import Task

DEFAULTS = {"cpus-per-task": "1", "signal": "USR1@30"}
"""Options of sbatch that a user may replace: a run gets the signal so many seconds before the time limit."""
HELD = "launch failed requeued held"
"""Why a job waits that a node could not begin, in the words of SLURM."""
BETWEEN = 5.0
"""Seconds between two questions to SLURM."""


def check(options: Mapping[str, str]) -> None:
    """Refuse a machine without SLURM. Raises UsageError."""
    missing = [name for name in ("sbatch", "srun", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        raise UsageError(
            f"There is no {missing[0]} on this machine.", "Run the command on a login node of the cluster."
        )


def job_name(sweep: Path) -> str:
    """The name of all jobs of a sweep."""
    return f"estep-{hashlib.sha256(os.fsencode(sweep)).hexdigest()[:12]}"


def script(sweep: Path, tasks: Sequence[Task], options: Mapping[str, str], jobs: int | None) -> str:
    """What sbatch is given. A user may edit and submit it by hand."""
    places = {run.id: i for i, run in enumerate(plan.read(sweep))} if (sweep / plan.PLAN).is_file() else {}
    numbered = [(places.get(task.run.id, i), task) for i, task in enumerate(tasks)]
    named = {**DEFAULTS, **{name.replace("_", "-"): value for name, value in options.items()}}
    array = ",".join(str(i) for i, _ in numbered) + (f"%{jobs}" if jobs else "")
    logs = sweep / lines.LOGS
    head = {"job-name": job_name(sweep), "array": array, "output": f"{logs}/slurm-%A_%a.txt", "chdir": os.getcwd()}
    cases = [
        f"{i}) run={task.run.id}; words=({shlex.join(task.begin())}); until=({shlex.join(task.until())});;"
        for i, task in numbered
    ]
    resume = shlex.join([*lines.PROGRAM, "resume"]) + ' "$folder" "${until[@]}" --json'
    allowed = "".join(f" --{name.replace('_', '-')}" for name, given in tasks[0].consent._asdict().items() if given)
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH --{name}={value}" for name, value in {**head, **named}.items()),
            "#SBATCH --requeue --open-mode=append",
            *(f"export {name}={value}" for name, value in lines.ONE_THREAD.items()),
            *('case "$SLURM_ARRAY_TASK_ID" in', *cases, "esac"),
            f"folder={shlex.quote(str(sweep / plan.RUNS))}/$run",
            f'[ -e "$folder/run.json" ] && words=({resume}{allowed})',
            f"logs={shlex.quote(str(logs))}/$run",
            'srun --ntasks=1 --cpu-bind=cores --output="$logs.out" --error="$logs.err" "${words[@]}"',
            "code=$?",
            # 75: it saved; 138: it had only begun when the signal came
            'case $code in 75|138) scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}";; esac',
            "exit $code",
            "",
        ]
    )


class Slurm:
    """An engine of array jobs."""

    keeps_running = True

    def __init__(self, sweep: Path, options: Mapping[str, str], jobs: int | None, note: Callable[[str], None]) -> None:
        self._sweep, self._options, self._jobs, self._note = sweep, options, jobs, note
        self._active: set[str] = set()
        self._asked = -BETWEEN

    def submit(self, tasks: Sequence[Task]) -> Collection[str]:
        """Submit all of them as one array job, but those that are queued or run already."""
        queued = self._queued()
        new = [task for task in tasks if task.run.id not in queued]
        if new:
            storage.make_dir(self._sweep / lines.LOGS)
            text = script(self._sweep, new, self._options, self._jobs)
            done = subprocess.run(["sbatch", "--parsable"], input=text, capture_output=True, text=True, timeout=120)
            if done.returncode:
                why = " ".join(done.stderr.split())
                raise UsageError(f"SLURM took no job: {why:.300}.", "Correct the options: --slurm name=value ...")
            self._note(f"slurm    job {done.stdout.strip()} with {len(new)} runs; estep sweep cancel ends it")
        self._active |= {task.run.id for task in tasks}
        return self._active

    def poll(self) -> Collection[str]:
        """The runs that SLURM no longer has."""
        if not self._active or time.monotonic() < self._asked + BETWEEN:
            return ()
        ended = self._active - self._queued()
        self._active -= ended
        return ended

    def _queued(self) -> set[str]:
        """The runs of the sweep that are queued or run. While SLURM does not answer, those of before.

        A job that a node could not begin is held by SLURM itself, and would wait for ever. It is released.
        """
        self._asked = time.monotonic()
        words = ["squeue", "--noheader", "--array", f"--name={job_name(self._sweep)}", "--format=%K %i %r"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        if done.returncode:
            return set(self._active)
        runs = plan.read(self._sweep)
        rows = [row for line in done.stdout.splitlines() if (row := line.split(maxsplit=2))]
        if held := [row[1] for row in rows if row[-1] == HELD]:
            subprocess.run(["scontrol", "release", *held], capture_output=True, timeout=120)
        places = {int(row[0]) for row in rows if row[0].isdigit()}
        return {runs[place].id for place in places if place < len(runs)}

    def cancel(self) -> None:
        """End the jobs."""
        cancel_jobs(self._sweep)


def cancel_jobs(sweep: Path) -> None:
    """End the jobs of a sweep: their runs save first."""
    if shutil.which("scancel"):
        subprocess.run(["scancel", f"--name={job_name(sweep)}"], capture_output=True, timeout=120)
