"""Timing windows of several programs in turn, each program in a process of its own.

A contender is a loop that calls its `Gate` after each piece of finished work. The gate counts, and between two windows
it blocks on a pipe, so that a contender whose turn it is not takes no processor time. Every process is started, warmed
up and compiled before the first window; then windows alternate round robin.
"""

from __future__ import annotations

import functools as ft
import multiprocessing as mp
import os
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

Loop = Callable[["Gate"], None]
Clock = Callable[[], float]
"""`time.perf_counter`, or `time.process_time` to count processor time, which others on the machine take less of."""
Task = Callable[[Connection], None]
"""What a process runs; a module's function or a `functools.partial` of one, since it is sent to a fresh interpreter."""
SETTLE_S = 0.3
"""Between windows: the thread pools of some libraries spin for a while after their last work."""
END_S = 10.0
"""That a process gets to end before it is killed."""


def usable() -> list[int]:
    """The cores that this process may use; on a system that does not tell, such as macOS, all of them."""
    known = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return sorted(known)


class Gate:
    """Counts finished work; at the end of a window reports it and waits for the next one."""

    def __init__(self, connection: Connection, warm: int, clock: Clock = time.perf_counter) -> None:
        """The first `warm` units are warm-up, compilation included. The clock is that of the rates."""
        self.connection, self.clock = connection, clock
        self.wait: Callable[[], Any] = lambda: None
        """Blocks until every result is there; called before the clock is read at the end of a window."""
        self.least, self.done = warm, 0
        self.began, self.deadline = clock(), time.perf_counter()

    def __call__(self, units: int = 1) -> bool:
        """Count finished units. Returns False: nothing is to stop, the process is ended from outside."""
        self.done += units
        if self.done < self.least or time.perf_counter() < self.deadline:
            return False
        self.wait()
        self.connection.send((self.done, self.clock() - self.began))
        seconds = self.connection.recv()
        self.least, self.done = 1, 0
        self.began, self.deadline = self.clock(), time.perf_counter() + seconds
        return False


class Member(NamedTuple):
    """One process of a contender."""

    loop: Loop
    warm: int = 1
    """Units before the first window."""
    cores: frozenset[int] | None = None
    """Cores it is pinned to; None for all."""
    clock: Clock = time.perf_counter


class Contender(NamedTuple):
    """What is timed: one process, or several at the same time whose rates are added up."""

    name: str
    members: Sequence[Member]


def contender(
    name: str, loop: Loop, warm: int = 1, core: int | None = None, clock: Clock = time.perf_counter
) -> Contender:
    """A contender of one process."""
    return Contender(name, [Member(loop, warm, None if core is None else frozenset({core}), clock)])


class Worker(AbstractContextManager["Worker"]):
    """A task in a fresh interpreter: in a scratch folder, silent, pinned if asked, ended when the block ends."""

    def __init__(
        self, task: Task, cores: frozenset[int] | None = None, setting: Mapping[str, str] | None = None
    ) -> None:
        self.scratch = tempfile.TemporaryDirectory(prefix="bench-")
        folder = Path(self.scratch.name)
        setting = {"ESTEP_CACHE_DIR": str(folder / "cache"), **(setting or {})}
        spawn = mp.get_context("spawn")
        self.connection, theirs = spawn.Pipe()
        self.process = spawn.Process(target=serve, args=(theirs, task, folder, cores, setting), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, seconds: float) -> None:
        """Begin a window."""
        self.connection.send(seconds)

    def answer(self) -> Any:
        """What the task sends next. Raises RuntimeError with its last words if it died."""
        try:
            return self.connection.recv()
        except EOFError:
            words = (Path(self.scratch.name) / "log").read_text(errors="replace")[-4000:]
            raise RuntimeError(f"a contender died:\n{words}") from None

    def __exit__(self, *unused: object) -> None:
        self.connection.close()  # a task that waits for its turn ends by itself
        self.process.join(END_S)
        self.process.kill()
        self.process.join()
        self.scratch.cleanup()


def serve(
    connection: Connection, task: Task, folder: Path, cores: frozenset[int] | None, setting: Mapping[str, str]
) -> None:
    """Run a task; what it prints (deprecations, MuJoCo's log) stays in the scratch folder."""
    if cores is not None and hasattr(os, "sched_setaffinity"):  # not on macOS, where the system chooses the core
        os.sched_setaffinity(0, cores)  # before any library counts the cores
    os.environ.update(setting)
    os.chdir(folder)
    log = os.open("log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        task(connection)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        traceback.print_exc()  # the parent has seen enough


def gated(loop: Loop, warm: int, clock: Clock, connection: Connection) -> None:
    """A loop as a task."""
    loop(Gate(connection, warm, clock))


def race(contenders: Sequence[Contender], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Units per second of each contender in each of its windows; each round gives every contender one."""
    rates: dict[str, list[float]] = {one.name: [] for one in contenders}
    with ExitStack() as stack:
        teams: dict[str, list[Worker]] = {}
        for one in contenders:
            began = time.monotonic()
            team = [
                stack.enter_context(Worker(ft.partial(gated, member.loop, member.warm, member.clock), member.cores))
                for member in one.members
            ]
            for worker in team:
                worker.answer()
            teams[one.name] = team
            print(f"{one.name}: ready after {time.monotonic() - began:.1f} s", flush=True)
        for number in range(rounds):
            for name, team in teams.items():
                time.sleep(SETTLE_S)
                rates[name].append(window(team, seconds))
            print(f"round {number + 1} of {rounds}", flush=True)
    return rates


def window(team: Sequence[Worker], seconds: float) -> float:
    """One window of all members at once: the sum of their rates."""
    for worker in team:
        worker.ask(seconds)
    return sum(units / elapsed for units, elapsed in [worker.answer() for worker in team])


def race_here(
    works: Mapping[Any, tuple[Callable[[], int], float]], rounds: int, say: Callable[[str], None]
) -> dict[Any, list[float]]:
    """As `race`, for many programs of one library in this process: blocking calls that return their units, and the
    seconds of a window. Each is called once before the first window."""
    rates: dict[Any, list[float]] = {name: [] for name in works}
    for work, _ in works.values():
        work()
    for number in range(rounds):
        for name, (work, seconds) in works.items():
            began, done = time.perf_counter(), 0
            while (elapsed := time.perf_counter() - began) < seconds or not done:
                done += work()
            rates[name].append(done / elapsed)
        say(f"round {number + 1} of {rounds}")
    return rates


def summary(rates: Sequence[float], base: Sequence[float]) -> dict[str, str]:
    """A contender's windows beside the baseline's, which were taken in the same rounds.

    Two ratios: of the medians, and the median of the ratios round by round, which drifts of the machine touch less.
    """
    paired = [mine / other for mine, other in zip(rates, base, strict=True)]
    return {
        "best": f"{max(rates):.4g}",
        "median": f"{statistics.median(rates):.4g}",
        "lowest": f"{min(rates):.4g}",
        "highest": f"{max(rates):.4g}",
        "median_us": f"{1e6 / statistics.median(rates):.4g}",
        "windows": str(len(rates)),
        "ratio_of_medians": f"{statistics.median(rates) / statistics.median(base):.3f}",
        "median_of_ratios": f"{statistics.median(paired):.3f}",
        "rates": " ".join(f"{rate:.4g}" for rate in rates),
    }
