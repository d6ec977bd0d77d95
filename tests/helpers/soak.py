"""Trains for minutes and looks for what grows: `make soak`, or `python tests/helpers/soak.py --minutes 3 sac`.

From the WARM-th step on (programs are compiled, checkpoints saved and pruned, policies evaluated) memory, open files,
threads, programs and arrays of JAX are noted every second, with the bytes of the log files. Memory and logs may grow by
LIMITS an hour and by NOISE; what is counted may not grow, from the first third of the time to the last one. In the
middle the clock is set back by a year and forward by ten, which must change no decision. Before that, runs in processes
of their own lose what they need: descriptors, memory, their folder, or the right to write to it. Each must end by
itself or go on, and what it saved before must verify.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import child
import jax
import numpy as np
import small

from estep.algorithms import SAC, IterativeSAC
from estep.errors import EstepError
from estep.runs import checkpoint

LIMITS = {"rss_mib": 20.0, "descriptors": 0.0, "threads": 0.0, "programs": 0.0, "arrays": 0.0, "log_mb": 5.0}
"""How much a warm run may grow in an hour."""
NOISE = {"rss_mib": 4.0}
"""What the allocator may take at any time."""
WARM = 2_000
"""Steps of the warm-up: two evaluations and four checkpoints."""
ALGORITHMS = {
    "sac": SAC(hidden_sizes=(32, 32)),
    "iterative-sac": IterativeSAC(hidden_sizes=(32, 32), iterations=2, act_samples=2),
}
YEAR = 365.0 * 24 * 3600


class Sampler:
    """Notes the state of this process once a second, and stops the run at its end."""

    def __init__(self, seconds: float, compiled: list[str], out: Path) -> None:
        self.began, self.seconds, self.compiled, self.out = 0.0, seconds, compiled, out
        self.rows: list[dict[str, float]] = []
        self.next = 0.0
        self.wall = time.time
        self.jumps = self.calls = 0

    def __call__(self) -> bool:
        """Called at every safe point of the run."""
        self.calls += 1
        if self.calls <= WARM:
            return False
        self.began = self.began or time.monotonic()
        now = time.monotonic() - self.began
        if now >= self.next:
            self.next = now + 1.0
            self.rows.append({"seconds": now, **self.state()})
        if self.jumps < 2 and now > self.seconds * (0.5 + 0.1 * self.jumps):
            self.jumps += 1
            shift = -YEAR if self.jumps == 1 else 10 * YEAR
            time.time = lambda: self.wall() + shift
        return now > self.seconds

    def state(self) -> dict[str, float]:
        """What may grow."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        logs = [path for path in self.out.rglob("*") if path.suffix in (".jsonl", ".csv") or "tb" in path.parts]
        return {
            "rss_mib": pages * resource.getpagesize() / 2**20,
            "descriptors": len(os.listdir("/proc/self/fd")),
            "threads": len(os.listdir("/proc/self/task")),
            "programs": len(self.compiled),
            "arrays": len(jax.live_arrays()),
            "log_mb": sum(path.stat().st_size for path in logs if path.is_file()) / 1e6,
        }


def compilations() -> list[str]:
    """A list that grows with each program that this process compiles or reads from the cache."""
    seen: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **rest: seen.append(name) if "backend_compile" in name else None
    )
    return seen


def growth(rows: list[dict[str, float]], name: str) -> float:
    """From the median of the first third of the time to that of the last one."""
    third = max(1, len(rows) // 3)
    first, last = ([row[name] for row in part] for part in (rows[:third], rows[-third:]))
    return float(np.median(last) - np.median(first))


def soak(name: str, minutes: float, place: Path) -> list[dict[str, Any]]:
    """Train for so many minutes. Returns a row for each quantity."""
    seconds, compiled = minutes * 60, compilations()
    sampler = Sampler(seconds, compiled, place)
    changes = {"steps": 10**8, "warmup_steps": 500, "batch_size": 64, "replay_size": 1000, "eval_every": 1000}
    changes |= {"checkpoint_every": 500, "log_every": 1000, "updates_per_call": 8}
    try:
        result = child.train(place, ALGORITHMS[name], env=small.left, stop=sampler, **changes)
    finally:
        time.time = sampler.wall
    broken = [reason for _, reason in checkpoint.verify(result.run_dir) if reason]
    hours = seconds / 3600 * 2 / 3  # between the middles of both thirds
    rows = []
    for quantity, per_hour in LIMITS.items():
        found, limit = growth(sampler.rows, quantity), per_hour * hours + NOISE.get(quantity, 0.0)
        last = sampler.rows[-1][quantity]
        row = {"algorithm": name, "minutes": minutes, "quantity": quantity, "last": round(last, 2)}
        rows.append({**row, "growth": round(found, 3), "limit": round(limit, 3), "ok": found <= limit})
    extra = {"quantity": "clock jumps", "last": sampler.jumps, "growth": "", "limit": "", "ok": sampler.jumps == 2}
    rows.append({"algorithm": name, "minutes": minutes, **extra})
    extra = {"quantity": "broken checkpoints", "last": len(broken), "growth": "", "limit": 0, "ok": not broken}
    rows.append({"algorithm": name, "minutes": minutes, **extra})
    rows.append(
        {"algorithm": name, "minutes": minutes, "quantity": "env steps", "last": result.env_steps}
        | {"growth": "", "limit": "", "ok": result.env_steps > WARM}
    )
    return rows


def no_descriptors(run_dir: Path) -> None:
    """Let this process open no further file."""
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))


def no_memory(run_dir: Path) -> None:
    """Let this process have no further memory."""
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used, used))


def deleted(run_dir: Path) -> None:
    """Remove the run folder."""
    shutil.rmtree(run_dir)


def read_only(run_dir: Path) -> None:
    """Let nobody write to the checkpoints of the run. The user root may all the same, so files stand in the way."""
    shutil.rmtree(run_dir / "checkpoints")
    (run_dir / "checkpoints").write_bytes(b"")


TAKEN = {"no descriptors": no_descriptors, "no memory": no_memory, "folder deleted": deleted, "not writable": read_only}


def taken(act: Callable[[Path], None], out: Path) -> int:
    """Train, and take something away after the first checkpoint. Returns the exit code of the command line."""
    count = 0

    def stop() -> bool:
        nonlocal count
        count += 1
        if count == 60:
            act(child.only_run(out))
        return False

    changes = {"steps": 400, "checkpoint_every": 40, "eval_every": 0, "eval_episodes": 1, "batch_size": 16}
    try:
        child.train(out, SAC(hidden_sizes=(8,)), env=small.left, stop=stop, **changes)
    except EstepError as error:
        print(f"{error.what}", file=sys.stderr)
        return error.exit_code
    except MemoryError:
        return 1
    return 0


def losses(place: Path) -> list[dict[str, Any]]:
    """A row for each thing that a run loses."""
    rows = []
    for name, act in TAKEN.items():
        out = place / name.replace(" ", "-")
        pid, began = os.fork(), time.monotonic()
        if not pid:
            os._exit(taken(act, out))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        left = [path.parent for path in out.glob("*/*/*/checkpoints") if path.is_dir()]
        kept = [reason for path in left for _, reason in checkpoint.verify(path)]
        ok = code in (0, 1, 6) and not any(kept)
        row = {"algorithm": "sac", "minutes": round((time.monotonic() - began) / 60, 2), "quantity": name}
        rows.append({**row, "last": f"exit {code}", "growth": "", "limit": "", "ok": ok})
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(ALGORITHMS), help="sac, iterative-sac (both)")
    parser.add_argument("--minutes", type=float, default=3.0, help="for each algorithm (3)")
    parser.add_argument("--only", action="store_true", help="without the runs that lose what they need")
    parser.add_argument("--out", type=Path, help="CSV to write")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        if not given.only:
            rows += losses(Path(folder))  # first, because processes are forked before JAX has threads
        for name in given.names:
            rows += soak(name, given.minutes, Path(folder) / name)
    small.report(rows, given.out)
    return int(not all(row["ok"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
