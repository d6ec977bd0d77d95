"""Brings a sweep to its end on an engine. It may be killed at any time: what is done is in the run folders."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from estep.runs import leftovers, storage
from estep.runs.folder import take_lock
from estep.sweeps import lines, page, plan, status
from estep.sweeps.engine import Engine
from estep.sweeps.lines import Consent, Task
from estep.sweeps.plan import Run
from estep.sweeps.status import State

TRIES = 3
"""How often a process may end without a result and without a step further, before its run counts as failed."""
SHORTEST, LONGEST = 0.02, 0.5
"""Seconds between two looks at the processes: short after one has ended."""
STATUS_SECONDS = 5.0
"""Seconds between two writes of status.json."""


class Options(NamedTuple):
    """How a sweep goes on."""

    retry: bool = False
    """Whether runs that failed are tried again."""
    consent: Consent = Consent()
    stop: Callable[[], bool] = lambda: False
    """Whether the sweep is to stop its runs, so that they can be resumed."""
    note: Callable[[str], None] = print


@contextlib.contextmanager
def locked(sweep: Path) -> Iterator[None]:
    """Hold the lock of a sweep, which is made if there is none. Raises RejectedInput if another process holds it."""
    storage.make_dir(sweep)
    lock = take_lock(sweep)
    try:
        leftovers.reap(sweep)
        yield
    finally:
        storage.close(lock)


def to_the_end(sweep: Path, runs: Sequence[Run], engine: Engine, options: Options) -> list[State]:
    """Run what is not done yet; returns what has become of every run.

    Args:
        sweep: the folder, whose lock is held.
        runs: the plan.
        engine: what runs the processes.
        options: how to go on.
    """
    states = {state.id: state for state in status.read(sweep, runs)}
    waiting = [run for run in runs if states[run.id].goes_on or (options.retry and states[run.id].state == "failed")]
    waiting.sort(key=size, reverse=True)
    if options.retry:
        for run in waiting:
            storage.remove_tree(sweep / lines.LOGS / f"{run.id}.out")
    drive = _Drive(sweep, {run.id: run for run in runs}, engine, options, states)
    drive.run([Task(sweep, run, options.consent) for run in waiting])
    states |= {name: status.planned(sweep, drive.runs[name]) for name in drive.active}  # they go on without the sweep
    status.write(sweep, list(states.values()))
    page.follow(sweep, drive.page, last=True)
    return list(states.values())


def size(run: Run) -> float:
    """How much work a run is, for the order: its environment steps times the updates for each."""
    settings = plan.resolved(run)
    return float(settings["steps"]) * float(settings["updates_per_step"]) * (settings["population"] or 1)


class _Drive:
    """The tasks that wait, and what is known of the others."""

    def __init__(
        self, sweep: Path, runs: dict[str, Run], engine: Engine, options: Options, states: dict[str, State]
    ) -> None:
        self.sweep, self.runs, self.engine, self.options, self.states = sweep, runs, engine, options, states
        self.page = page.Page()
        self.active: set[str] = set()
        self.tries: dict[str, tuple[int, int]] = {}
        """For each run its steps when its process ended last, and how often it has ended there."""

    def run(self, waiting: list[Task]) -> None:
        """Submit and poll until nothing is left, or until the sweep is to stop."""
        stopping, pause, written = False, SHORTEST, time.monotonic()
        while self.active or (waiting and not stopping):
            if self.options.stop() and not stopping:
                stopping = True
                if self.engine.keeps_running:
                    return
                self.options.note(f"stopping {len(self.active)} runs, which save first ...")
                self.engine.cancel()
            if waiting and not stopping:
                taken = set(self.engine.submit(waiting))
                self.active |= taken
                waiting = [task for task in waiting if task.run.id not in taken]
            ended = list(self.engine.poll())
            waiting += [task for task in map(self._ended, ended) if task is not None]
            pause = SHORTEST if ended else min(LONGEST, pause * 1.3)
            if time.monotonic() > written + STATUS_SECONDS:
                written = time.monotonic()
                status.write(self.sweep, [self._now(state) for state in self.states.values()])
                page.follow(self.sweep, self.page)
            time.sleep(pause)

    def _now(self, state: State) -> State:
        return status.planned(self.sweep, self.runs[state.id]) if state.id in self.active else state

    def _ended(self, name: str) -> Task | None:
        """Take note of a process that has ended. Returns its task if its run is to go on."""
        self.active.discard(name)
        state = status.planned(self.sweep, self.runs[name])
        steps, count = self.tries.get(name, (-1, 0))
        count = count + 1 if (state.env_steps or 0) <= steps else 1
        self.tries[name] = max(steps, state.env_steps or 0), count
        self.states[name] = state
        if state.state in (status.WAITING, status.STOPPED, status.RUNNING):
            if count < TRIES:
                return Task(self.sweep, self.runs[name], self.options.consent)
            what = f"Its process ended {count} times without a result; see {lines.LOGS}/{name}.err."
            state = self.states[name] = State(name, status.FAILED, state.env_steps, exit_code=1, error=what)
        self.page.changed |= page.has_evaluations(lines.folder_of(self.sweep, name))
        total = status.counts(self.states.values())
        end = f" ({state.error})" if state.error else ""
        self.options.note(f"{state.state:8s} {name}{end} · {total[status.DONE]} of {len(self.states)} runs are done")
        return None
