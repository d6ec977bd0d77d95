"""The rounds of a population: `python population.py STUDY OUT.csv`.

A row for each end of a round of each member: where it was, its settings there, and its return.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from estep.runs.folder import EVALUATIONS, RunFolder
from estep.sweeps import plan
from estep.sweeps.lines import folder_of
from estep.tuning.forking import FORKS


def main() -> int:
    study, out = map(Path, sys.argv[1:])
    rows = []
    for place in sorted((study / "trials").iterdir()):
        for run in plan.read(place):
            folder = RunFolder.open(folder_of(place, run.id))
            forks = folder.read_run().get(FORKS) or []
            source = forks[-1]["source"].split("/")[-2] if forks else ""
            begun = forks[-1]["env_steps"] if forks else 0
            with open(folder.path / EVALUATIONS, newline="") as file:
                ends = {int(row["env_steps"]): float(row["mean"]) for row in csv.DictReader(file)}
            settings = {name: run.settings[name] for name in ("learning_rate", "tau")}
            head = {"member": place.name, "copied_from": source, **settings}
            rows += [{**head, "env_steps": at, "return": end} for at, end in ends.items() if at > begun]
    with open(out, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
