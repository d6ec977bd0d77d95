"""Small runs for the tests of training, in this process or as a program whose forks are killed at random moments."""

import hashlib
import json
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np

from estep.algorithms import KLMVE, MVE, PPSMC, SAC, SMCP, VMPO, IterativeMVE, IterativeSAC
from estep.cli.lifecycle import Lifecycle
from estep.errors import STOPPED
from estep.policy.job import RunContext, Silent, never_stop
from estep.population import run as population_run
from estep.population.population import is_population
from estep.runs import checkpoint
from estep.settings.run import RunConfig
from estep.training import run

MODEL = {"hidden_sizes": (8,), "members": 2, "model_hidden_sizes": (8,)}
SEARCH = {"particles": 3, "horizon": 2}
SMALL = {
    "sac": SAC(hidden_sizes=(16, 16)),
    "iterative-sac": IterativeSAC(hidden_sizes=(16, 16), iterations=2, act_samples=2),
    "vmpo": VMPO(hidden_sizes=(16, 16), rollout=40, unroll=4, epochs=2),
    "mve": MVE(**MODEL),
    "iterative-mve": IterativeMVE(**MODEL, iterations=2),
    "kl-mve": KLMVE(**MODEL, target_period=7),
    "smcp": SMCP(**MODEL, **SEARCH),
    "pp-smc": PPSMC(**MODEL, **SEARCH, samples=3, target_period=7),
}
ENV = "Pendulum-v1"
TIMES = ("wall_s", "env_steps_per_s")


class Notes(Silent):
    """Remembers what it is told."""

    def __init__(self):
        self.notes, self.records = [], []

    def note(self, text):
        self.notes.append(text)

    def progress(self, record):
        self.records.append(dict(record))

    def said(self, text):
        return any(text in note for note in self.notes)


def config(**changes):
    """A run of seconds. Every test that can has these shapes, so that they share compiled programs."""
    base = {
        "steps": 120,
        "batch_size": 32,
        "updates_per_call": 4,
        "warmup_steps": 40,
        "replay_size": 500,
        "eval_every": 60,
    }
    base |= {"eval_episodes": 2, "checkpoint_every": 40, "log_every": 20, "env_timeout": 0.0}
    return RunConfig(**{**base, **changes})


def job(report=None, stop=never_stop):
    return RunContext(("test",), report or Notes(), stop, print)


def train(out, algorithm="sac", env=ENV, stop=never_stop, report=None, **changes):
    row = SMALL[algorithm] if isinstance(algorithm, str) else algorithm
    runner = population_run if changes.get("population") else run
    return runner.train(row, env, config(**changes), out=Path(out), preset=None, context=job(report, stop))


def resume(run_dir, stop=never_stop, report=None, **options):
    runner = population_run if is_population(run_dir) else run
    return runner.resume(Path(run_dir), context=job(report, stop), **options)


def only_run(out):
    """The one run folder under out."""
    (found,) = Path(out).glob("*/*/*/run.json")
    return found.parent


def leaves(run_dir):
    """Everything the newest checkpoint holds, by name: arrays with the chunks of replay, and plain numbers."""
    path = checkpoint.newest(Path(run_dir))[0]
    loaded = checkpoint.load(path, None, None)
    found = {f"{file}/{name}": array for file, arrays in loaded.tensors.items() for name, array in arrays.items()}
    for chunk in sorted((path / "replay").iterdir()):
        found[f"replay/{chunk.name}"] = np.frombuffer(chunk.read_bytes(), np.uint8)
    meta = {**loaded.meta, "session": {k: v for k, v in loaded.meta["session"].items() if k not in TIMES}}
    return found | {f"meta/{name}": json.dumps(value, sort_keys=True) for name, value in meta.items()}


def digest(run_dir, prefix=""):
    """SHA-256 over all of them."""
    sha = hashlib.sha256()
    for name, value in sorted(leaves(run_dir).items()):
        if name.startswith(prefix):
            data = (
                value.encode() if isinstance(value, str) else f"{value.dtype}{value.shape}".encode() + value.tobytes()
            )
            sha.update(name.encode() + data)
    return sha.hexdigest()


def without_times(record):
    return {name: value for name, value in record.items() if not name.endswith("_s")}


def metrics(run_dir):
    return [json.loads(line) for line in (Path(run_dir) / "metrics.jsonl").read_text().splitlines()]


def table(run_dir, name):
    """The rows of a CSV file as dicts of strings."""
    header, *rows = [line.split(",") for line in (Path(run_dir) / name).read_text().splitlines()]
    return [dict(zip(header, row, strict=True)) for row in rows]


def records(run_dir):
    """What a run wrote down, without the fields that depend on time."""
    written = {name: [without_times(row) for row in table(run_dir, name)] for name in ("eval.csv", "episodes.csv")}
    return written | {"metrics.jsonl": [without_times(record) for record in metrics(run_dir)]}


def outcome(run_dir):
    """What two equal runs have in common."""
    return digest(run_dir), records(run_dir)


def part(out, algorithm, changes, ends):
    """Train or go on; `ends` gives a signal and when to send it to this process, in safe points and then in seconds."""
    count = 0
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with Lifecycle() as life:

        def stop():
            nonlocal count
            count += 1
            if ends and count == ends[1]:
                timer = threading.Timer(ends[2], os.kill, (os.getpid(), signal.Signals[ends[0]]))
                timer.daemon = True
                timer.start()
            return life.stop_requested

        if any(Path(out).glob("*/*/*/run.json")):
            result = resume(only_run(out), stop)
        else:
            result = train(out, algorithm, stop=stop, **changes)
    return STOPPED if result.status == "stopped" else 0


def main():
    """Run each part in a process of its own, forked before JAX has started anything; print how each ended."""
    for out, algorithm, changes, ends in json.loads(sys.argv[1]):
        process = os.fork()
        if not process:
            os._exit(part(out, algorithm, changes, ends))
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
