"""Kills real processes that train: `make kills`, or `python tests/helpers/kills.py --random 1000 --out kills.csv`.

A process is killed with SIGKILL before every single operation on the disk, once while it starts and trains and once
while it resumes, and then at random moments. After each kill every checkpoint that is left must verify, and the newest
must be at least as new as the last save that was reported. In the end the run is resumed, and every file that a user
relies on must equal that of a run that nobody disturbed.

The CSV is written again after every kill. A campaign whose CSV is there goes on where it stopped.
"""

from __future__ import annotations

import argparse
import collections
import csv
import faulthandler
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import small

DEADLINE = 120.0
"""Seconds after which a process is taken for hung; half of them later it says where it is."""
PHASES = ["train", "resume", "random"]
COUNTED = ("operations", "kills", "runs", "losses")


class Child:
    """A forked process, and the steps of the saves that it reported."""

    def __init__(self, act: Callable[[], None], kill_at: int = 0) -> None:
        """Fork a process that runs `act`, and kills itself before its `kill_at`-th operation on the disk."""
        self.reports, mine = os.pipe()
        self.started = time.monotonic()
        self.pid = os.fork()
        if not self.pid:
            os.close(self.reports)
            os._exit(run(act, mine, kill_at))
        os.close(mine)

    def wait(self, seconds: float = DEADLINE, kill: bool = False) -> tuple[int, int, float]:
        """Wait for the end, and kill it after so many seconds.

        Returns the exit code (negative for a signal), the step of the last save (0 if there was none), and the seconds.

        Raises:
            TimeoutError: it had to be killed although `kill` is not asked for.
        """
        deadline, late = self.started + seconds, False
        while (ended := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
            if time.monotonic() >= deadline and not late:
                os.kill(self.pid, signal.SIGKILL)
                late = True
            time.sleep(0.0005)
        taken = time.monotonic() - self.started
        with os.fdopen(self.reports) as reports:
            steps = [int(line) for line in reports.read().split("\n")[:-1]]
        if late and not kill:
            raise TimeoutError(f"a process did not end within {seconds} s")
        return os.waitstatus_to_exitcode(ended[1]), max(steps, default=0), taken


def run(act: Callable[[], None], reports: int, kill_at: int) -> int:
    """What a forked process does: report every save, and die at the operation that it is told."""
    from estep.runs import storage
    from estep.training.session import Session

    save, count = Session.save, 0

    def reported(session: Session, best: bool = False) -> None:
        save(session, best)
        os.write(reports, f"{session.trainer.counts.saved}\n".encode())

    def counted(name: str, path: Path) -> None:
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    Session.save, storage.hook = reported, counted
    faulthandler.dump_traceback_later(DEADLINE / 2)  # says where a process hangs
    try:
        act()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def run_of(out: Path) -> Path | None:
    """The run folder under `out`, or None if no process came so far."""
    found = [path.parent for path in out.glob("*/*/*/run.json")]
    return found[0] if found else None


def go_on(out: Path) -> Callable[[], None]:
    """Train, or resume the run that is there."""
    run_dir = run_of(out)
    return (lambda: small.train(out)) if run_dir is None else (lambda: small.resume(run_dir))


def check(out: Path, acknowledged: int, ended: bool = False) -> str:
    """What is wrong with the run folder after a kill, or an empty text."""
    from estep.runs import checkpoint

    run_dir = run_of(out)
    if run_dir is None:
        return "" if not acknowledged else f"step {acknowledged} was saved, but there is no run folder"
    left = [path for path in run_dir.rglob(".tmp-*") if path.parent.name in (run_dir.name, "checkpoints")]
    if len(left) > (0 if ended else 2):  # another thread writes the report
        return f"{len(left)} temporary files are left"
    if not any((run_dir / "checkpoints").glob("step_*")):
        return "" if not acknowledged else f"step {acknowledged} was saved, but there is no checkpoint"
    broken = [f"{path.name}: {reason}" for path, reason in checkpoint.verify(run_dir) if reason]
    if broken:
        return "; ".join(broken)
    newest = checkpoint.newest(run_dir)[0]
    step = int(newest.name.split("_")[1].partition("-")[0])
    return "" if step >= acknowledged else f"step {acknowledged} was saved, but the newest checkpoint is {newest.name}"


def finish(out: Path, whole: dict[str, str], acknowledged: int) -> str:
    """Resume to the end. Returns what is wrong, or an empty text."""
    code, _, _ = Child(go_on(out)).wait()
    if code:
        return f"the run could not be resumed (exit {code})"
    found = small.files(run_of(out))
    names = sorted(name for name in whole.keys() | found.keys() if whole.get(name) != found.get(name))
    return f"other content than the undisturbed run: {', '.join(names)}" if names else check(out, acknowledged, True)


class Campaign:
    """Kills, and what was wrong after them."""

    def __init__(self, place: Path, out: Path | None = None) -> None:
        self.place, self.out, self.wrong = place, out, []
        self.kills: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        if out and out.is_file():
            with out.open(newline="") as file:
                for row in csv.DictReader(file):
                    self.kills[row["phase"]].update({name: int(row[name]) for name in COUNTED})
        small.train(place / "compile")
        small.train(place / "whole")
        self.whole = small.files(run_of(place / "whole"))
        self.half = place / "half"
        """A run that was killed half way, for the kills of a resume."""
        Child(go_on(self.half), kill_at=self.operations(place / "count") // 2).wait()
        self.operations(place / "resumed", self.half)  # compiles the rest: a forked process cannot

    def operations(self, out: Path, of: Path | None = None) -> int:
        """How many operations a run makes; or a resume of a copy of the run in `of`."""
        from estep.runs import storage

        if of is not None:
            shutil.copytree(of, out)
        seen: list[str] = []
        storage.hook = lambda name, path: seen.append(name)
        try:
            go_on(out)()
        finally:
            storage.hook = None
        return len(seen)

    def note(self, phase: str, what: str, number: object) -> None:
        """Count a kill, and what was wrong after it."""
        self.kills[phase]["kills"] += 1
        if what:
            self.kills[phase]["losses"] += 1
            self.wrong.append(f"{phase} {number}: {what}")
            print(self.wrong[-1], flush=True)
        if self.out:
            small.write(self.rows(), self.out)

    def at_every_operation(self, phase: str, half: Path | None, stride: int) -> None:
        """Kill before every `stride`-th operation of a run, or of a resume of the run in `half`."""
        total = self.operations(self.place / f"count-{phase}", half)
        self.kills[phase]["operations"] = total
        for number in range(1 + stride * self.kills[phase]["kills"], total + 1, stride):
            out = self.place / f"{phase}-{number}"
            if half is not None:
                shutil.copytree(half, out)
            code, acknowledged, _ = Child(go_on(out), kill_at=number).wait()
            what = "" if code == -signal.SIGKILL else f"it ended with exit {code} before it could be killed"
            what = what or check(out, acknowledged) or finish(out, self.whole, acknowledged)
            self.kills[phase]["runs"] += 1
            self.note(phase, what, number)
            shutil.rmtree(out)

    def at_random(self, kills: int, seed: int) -> None:
        """Kill at random moments: one run again and again until it comes to its end, then another."""
        phase = "random"
        chance = random.Random(f"{seed} {self.kills[phase]['kills']}")
        usual, number = self.seconds(), self.kills[phase]["runs"]
        while self.kills[phase]["kills"] < kills:
            number += 1
            out, acknowledged, ended = self.place / f"random-{number}", 0, False
            for _ in range(50):
                if ended or self.kills[phase]["kills"] >= kills:
                    break
                code, step, _ = Child(go_on(out)).wait(chance.uniform(0, usual), kill=True)
                ended = code != -signal.SIGKILL  # it came to its end before
                if not ended:
                    acknowledged = max(acknowledged, step)
                    self.note(phase, check(out, acknowledged), f"{number} after step {acknowledged}")
            self.kills[phase]["runs"] += 1
            if what := finish(out, self.whole, acknowledged):
                self.kills[phase]["losses"] += 1
                self.wrong.append(f"random run {number}: {what}")
                print(self.wrong[-1], flush=True)
            shutil.rmtree(out, ignore_errors=True)
            usual = usual if ended else self.seconds()  # the machine has become slower

    def seconds(self) -> float:
        """How long a run takes now."""
        _, _, taken = Child(lambda: small.train(self.place / "timed")).wait()
        shutil.rmtree(self.place / "timed")
        return taken

    def rows(self) -> list[dict[str, object]]:
        """A row for each phase."""
        return [
            {"phase": phase, **{name: self.kills[phase][name] for name in COUNTED}}
            for phase in PHASES
            if phase in self.kills
        ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phases", nargs="*", default=PHASES, help="train, resume, random; none means all")
    parser.add_argument("--random", type=int, default=1000, help="kills at random moments (1000)")
    parser.add_argument("--stride", type=int, default=1, help="kill at every so many operations (1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="CSV to write")
    given = parser.parse_args()
    small.prepare()
    memory = Path("/dev/shm")  # a kill needs no disk, and runs are there fifty times as fast
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        campaign = Campaign(Path(folder), given.out)
        signal.signal(signal.SIGTERM, lambda *received: sys.exit(1))
        try:
            for phase in given.phases:
                if phase == "random":
                    campaign.at_random(given.random, given.seed)
                else:
                    campaign.at_every_operation(phase, campaign.half if phase == "resume" else None, given.stride)
        except (KeyboardInterrupt, SystemExit):
            print("interrupted: these are the kills so far")
        rows = campaign.rows()
    small.report(rows, given.out)
    return int(bool(campaign.wrong))


if __name__ == "__main__":
    sys.exit(main())
