"""One run as two tables: eval.csv as the run wrote it, and metrics.csv, some columns of its metrics.jsonl.

Run as

    python experiments/halfcheetah_iterative/tables.py results/halfcheetah_iterative RUN
"""

from __future__ import annotations

import argparse
from pathlib import Path

from estep.runs import tables
from estep.runs.folder import RunFolder

COLUMNS = (
    *("env_steps", "updates", "return"),
    *(f"e/improvement_{k}" for k in range(1, 6)),
    *("e/value", "m/alpha", "m/kl", "critic/value", "critic/disagreement"),
)


def cell(value: float | None) -> str:
    """A number in six digits, a count in all of its own; empty where the line has none."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("run", type=Path)
    args = parser.parse_args()
    folder = RunFolder.open(args.run)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "eval.csv").write_bytes((folder.path / "eval.csv").read_bytes())
    lines = [[cell(record.get(name)) for name in COLUMNS] for record in folder.read_metrics()]
    tables.write(args.out / "metrics.csv", COLUMNS, lines)


if __name__ == "__main__":
    main()
