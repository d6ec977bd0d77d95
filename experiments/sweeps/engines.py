"""Compares a sweep on several engines: `python engines.py OUT.csv local=SWEEP slurm=SWEEP ray=SWEEP`.

A row for each run that is done on all engines: its last return on each, and whether its parameters, optimiser and
replay are equal in every byte. Ends with 1 if a run is not equal.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from pathlib import Path

from estep.sweeps import plan, status
from estep.sweeps.lines import folder_of


def arrays(run_dir: Path) -> str:
    """A hash of the arrays of the newest checkpoint."""
    newest = run_dir / "checkpoints" / (run_dir / "latest").read_text().strip()
    found = hashlib.sha256()
    for path in sorted(newest.rglob("*.safetensors")):
        found.update(path.relative_to(newest).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def main() -> int:
    out, *words = sys.argv[1:]
    sweeps = {name: Path(path) for name, _, path in (word.partition("=") for word in words)}
    rows = []
    for run in plan.read(next(iter(sweeps.values()))):
        ends = {name: status.of(sweep, run.id) for name, sweep in sweeps.items()}
        if any(end.state != status.DONE for end in ends.values()):
            continue
        hashes = {arrays(folder_of(sweep, run.id)) for sweep in sweeps.values()}
        returns = {f"return_{name}": end.eval_mean for name, end in ends.items()}
        steps = next(iter(ends.values())).env_steps
        head = {"algorithm": run.algorithm, "env": " ".join(run.env), "seed": run.seed, "env_steps": steps}
        rows.append({**head, **returns, "equal": len(hashes) == 1 and len(set(returns.values())) == 1})
    with open(out, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{sum(row['equal'] for row in rows)} of {len(rows)} runs are equal on {', '.join(sweeps)}")
    return int(not all(row["equal"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
