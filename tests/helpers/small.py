"""A run of about a second, in which every kind of write comes up: `make kills`, `make soak` and the power loss use it.

The process that forks others has compiled every program before, with JAX computing in the calling thread alone, so that
a forked process needs no thread of its parent.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

FLAGS = "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0"
CHANGES = {
    **{"steps": 64, "warmup_steps": 10, "batch_size": 16, "updates_per_call": 4, "replay_size": 200},
    **{"checkpoint_every": 16, "eval_every": 24, "eval_episodes": 1, "log_every": 8, "keep_checkpoints": 2},
    **{"normalise": True, "env_timeout": 0.0},
}
TIMES = {"wall_s", "env_steps_per_s", "started", "ended", "command", "git", "probed"}
"""What differs between two equal runs. A slow machine makes fewer updates twice."""

REPORT = "report.html"
DATA = '<script type="application/json" id="data">'
TOLD = ("started", "ended", "commit", "command", "folder")
"""The same, as a report names it."""


def prepare() -> None:
    """Let JAX compute in the calling thread, on one core. Call this before JAX is used."""
    os.environ.setdefault("XLA_FLAGS", FLAGS)
    os.environ["PYTHONWARNINGS"] = "ignore"  # of JAX about forks
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import warnings

    import jax

    warnings.filterwarnings("ignore", message=".*fork.*")
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def left() -> Any:
    """The environment: the task of the fork whose goal is on the left."""
    from quick_tasks import Fork

    return Fork(-1.0)


def train(out: Path) -> None:
    """Train the small run."""
    import child

    from estep.algorithms import SAC

    child.train(out, SAC(hidden_sizes=(8,)), env=left, **CHANGES)


def resume(run_dir: Path) -> None:
    """Go on with it."""
    import child

    child.resume(run_dir, env=left)


def trim(value: object) -> object:
    """JSON values without what differs between two equal runs."""
    if isinstance(value, dict):
        return {
            name: trim(one)
            for name, one in value.items()
            if name not in TIMES and not name.startswith("time/") and not name.endswith("_s")
        }
    return [trim(one) for one in value] if isinstance(value, list) else value


def files(run_dir: Path) -> dict[str, str]:
    """The content of every file that a user relies on, by name; the arrays of checkpoints by their hash.

    TensorBoard's events are left out: their names hold the time.
    """
    found = {}
    for path in sorted(run_dir.rglob("*")):
        name = str(path.relative_to(run_dir))
        if path.is_dir() or name == ".lock" or name.startswith("tb/"):
            continue
        data = path.read_bytes()
        if name.endswith(".json"):
            table = json.loads(data)
            if path.name == "manifest.json":
                del table["self"]
            found[name] = json.dumps(trim(table), sort_keys=True)
        elif name.endswith(".jsonl"):
            found[name] = "\n".join(json.dumps(trim(json.loads(line)), sort_keys=True) for line in data.splitlines())
        elif name.endswith(".csv"):
            rows = [line.split(",") for line in data.decode().splitlines()]
            columns = [i for i, column in enumerate(rows[0]) if column not in TIMES]
            found[name] = "\n".join(",".join(row[i] for i in columns) for row in rows)
        elif name == REPORT:
            found[name] = report_anew(run_dir)
        else:
            found[name] = hashlib.sha256(data).hexdigest()
    return found


def report_anew(run_dir: Path) -> str:
    """The report of a run, without what differs between two equal runs. It is written anew, because that of a run that
    goes on is the one of some moment."""
    from estep.report import contents, page
    from estep.runs.folder import RunFolder

    before, _, rest = page.page(contents.contents(RunFolder.open(run_dir))).partition(DATA)
    data, _, after = rest.partition("</script>")
    held = json.loads(data)
    held["about"] = [pair for pair in held["about"] if pair[0] not in TOLD]
    rows = re.sub(rf"<tr><t[hd]>({'|'.join(TOLD)})</t.*?</tr>", "", before, flags=re.DOTALL)
    return f"{rows}{json.dumps(trim(held), sort_keys=True)}{after}"


def report(rows: list[dict], out: Path | None) -> None:
    """Print what a campaign counted, a line for each row, and write it as a CSV if a file is given."""
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items() if value != ""), flush=True)
    if out:
        write(rows, out)


def write(rows: list[dict], out: Path) -> None:
    """Write the rows as a CSV. Whoever reads it while it is written sees the one of before."""
    new = out.with_name(f".{out.name}.new")
    with new.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    new.replace(out)
