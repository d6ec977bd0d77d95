"""Kills sweeps on this machine: `python tests/helpers/sweep_kills.py --kills 200`, or with `--real --kills 20`.

At random moments SIGKILL ends the process of the sweep, a run, or everything at once. The sweep is then started again,
until it ends. In the end every run must be done and equal that of a sweep that nobody disturbed, and none may be lost.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fake_sweep
import small

from estep.runs import leftovers
from estep.runs.folder import LOCK, holder
from estep.sweeps import plan, status

VICTIMS = "sweep", "run", "everything"
TRAIN = {
    False: ("--steps", "400", "--tau", "0.002"),
    True: (
        *("--steps", "64", "--warmup-steps", "10", "--batch-size", "16", "--updates-per-call", "4", "--normalise"),
        *("--replay-size", "200", "--checkpoint-every", "16", "--eval-every", "24", "--eval-episodes", "1"),
        *("--log-every", "8", "--keep-checkpoints", "2", "--hidden-sizes", "8"),
    ),
}
"""A run of a second, and one of some seconds that writes everything."""
DEADLINE = 600.0


def estep(real: bool, *words: object) -> subprocess.Popen[bytes]:
    """A command in a process of its own."""
    program = ["-m", "estep"] if real else [fake_sweep.__file__]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, *program, "sweep", *map(str, words)], **quiet)


def content(sweep: Path, real: bool) -> dict[str, object]:
    """What each run has come to, by its id."""
    found: dict[str, object] = {}
    for run in plan.read(sweep):
        state, folder = status.of(sweep, run.id), sweep / plan.RUNS / run.id
        files = {} if not real else small.files(folder)
        views = ("report.html", "learning_curve")
        found[run.id] = state.state, state.eval_mean, {k: v for k, v in files.items() if not k.startswith(views)}
    return found


def running(sweep: Path) -> list[int]:
    """The processes that train now."""
    folders = [path.parent for path in sweep.glob(f"runs/*/{LOCK}") if leftovers.is_held(path)]
    return [pid for folder in folders if (pid := holder(folder, 0.0).get("pid"))]


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def kill(pids: list[int]) -> None:
    """End processes at once."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Campaign:
    """Kills, and what was wrong after them."""

    def __init__(self, place: Path, real: bool, seed: int) -> None:
        self.place, self.real, self.chance = place, real, random.Random(seed)
        self.kills: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.sweeps = 0
        self.words = ("sac", "--env", "Pendulum-v1", "--seeds", "0..3", *TRAIN[real], "--out")
        start = time.monotonic()
        assert estep(real, *self.words, place / "whole").wait(DEADLINE) == 0
        self.usual = time.monotonic() - start
        self.whole = content(place / "whole", real)
        assert {state for state, *_ in self.whole.values()} == {"done"}

    def one(self, most: int) -> None:
        """Disturb one sweep until it ends, or until there were so many kills."""
        self.sweeps += 1
        sweep, done = self.place / f"sweep-{self.sweeps}", False
        while not done and self.kills.total() < most:
            planned = (sweep / plan.PLAN).is_file()
            process = estep(self.real, sweep) if planned else estep(self.real, *self.words, sweep)
            while self.kills.total() < most:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.pause(process, sweep)
                    done = process.wait(self.chance.uniform(0, self.usual / 4)) == 0
                    break
                if self.strike(process, sweep) != "run":
                    break
            if process.poll() is None and self.kills.total() >= most:
                break
            process.wait(DEADLINE)
        self.finish(sweep)

    def pause(self, process: subprocess.Popen[bytes], sweep: Path) -> None:
        """Mostly wait until something trains: the sweep itself takes longer to start than fake runs take."""
        while self.chance.random() < 0.998 and process.poll() is None and not running(sweep):
            time.sleep(0.02)

    def strike(self, process: subprocess.Popen[bytes], sweep: Path) -> str:
        """Kill something; returns what."""
        victim = self.chance.choice(VICTIMS)
        runs = running(sweep)
        if victim == "run" and not runs:
            victim = "sweep"
        family = [process.pid, *children(process.pid), *runs] if victim == "everything" else [process.pid]
        kill([self.chance.choice(runs)] if victim == "run" else family)
        self.kills[victim] += 1
        return victim

    def finish(self, sweep: Path) -> None:
        """Bring a sweep to its end, and compare its runs."""
        end, code = time.monotonic() + DEADLINE, 3
        while code == 3 and time.monotonic() < end:  # 3: the process that goes on by itself holds the folder
            planned = (sweep / plan.PLAN).is_file()
            code = (estep(self.real, sweep) if planned else estep(self.real, *self.words, sweep)).wait(DEADLINE)
            time.sleep(0.1)
        found = content(sweep, self.real)
        if code or found != self.whole:
            bad = [name for name in self.whole if found.get(name) != self.whole[name]]
            self.wrong.append(f"{sweep.name}: exit {code}, other runs than undisturbed: {bad}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--real", action="store_true", help="train for real")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        campaign = Campaign(Path(place), given.real, given.seed)
        while campaign.kills.total() < given.kills:
            campaign.one(given.kills)
        counts = ", ".join(f"{campaign.kills[name]} of {name}" for name in VICTIMS)
        print(f"{campaign.kills.total()} kills ({counts}) in {campaign.sweeps} sweeps, {len(campaign.wrong)} wrong")
        print("\n".join(campaign.wrong))
    return int(bool(campaign.wrong))


if __name__ == "__main__":
    sys.exit(main())
