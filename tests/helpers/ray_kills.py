"""Kills workers of Ray while their runs train: `python tests/helpers/ray_kills.py --kills 10 --out ray_kills.csv`.

Ray begins the task of a worker that was lost again, and its run must go on. In the end every run must equal that of a
sweep on this machine that nobody disturbed.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import small
import sweep_kills

RUNS = ("sac", "--env", "Pendulum-v1", "--seeds", "0..1", "--steps", "3000", *sweep_kills.TRAIN[True][2:], "--out")
NAME = b"ray::execute"


def workers() -> list[int]:
    """The processes of Ray that hold a run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [int(path.parent.name)] if path.read_bytes().startswith(NAME) else []
        except OSError:  # it has ended
            continue
    return found


def disturbed(sweep: Path, kills: int, chance: random.Random) -> int:
    """Make a sweep on Ray and kill its workers; returns how many were killed."""
    process, done = sweep_kills.estep(True, *RUNS, sweep, "--on", "ray", "--address", "local"), 0
    while process.poll() is None:
        time.sleep(chance.uniform(0.5, 4.0))
        if done < kills and sweep_kills.running(sweep) and (found := workers()):
            sweep_kills.kill([chance.choice(found)])
            done += 1
    return done


def rows(kills: int, seed: int) -> list[dict[str, object]]:
    """How many workers were killed, and how many runs are others than undisturbed."""
    chance, total, wrong, sweeps = random.Random(seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        if sweep_kills.estep(True, *RUNS, whole).wait(sweep_kills.DEADLINE):
            raise RuntimeError("the sweep on this machine failed")
        expected = sweep_kills.content(whole, True)
        while total < kills:
            sweeps += 1
            sweep = Path(folder) / f"ray-{sweeps}"
            total += disturbed(sweep, kills - total, chance)
            found = sweep_kills.content(sweep, True)
            wrong += sum(found.get(name) != one for name, one in expected.items())
            print(f"{total} kills in {sweeps} sweeps, {wrong} wrong runs", flush=True)
    return [{"victim": "a worker of Ray", "kills": total, "runs": 2 * sweeps, "losses": wrong}]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="CSV to write")
    given = parser.parse_args()
    found = rows(given.kills, given.seed)
    small.report(found, given.out)
    return int(bool(found[0]["losses"]))


if __name__ == "__main__":
    sys.exit(main())
