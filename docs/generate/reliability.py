"""The page of promises: each with the test that fails if it is false, and with a number that a command made.

`python docs/generate/reliability.py docs/reliability.md` rewrites it from reliability.csv beside this file, whose tests
are file::function below tests/. A number is what the test counts, or {file:column}, the sum of a column of a table
of results/reliability; `no` stands where there is none yet.
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

from estep.runs import storage

ROOT = Path(__file__).parents[2]
NUMBERS = ROOT / "results" / "reliability"
TABLE = Path(__file__).with_name("reliability.csv")
NONE = "no"
HEAD = """# Reliability

What estep promises, by number: the test that fails if the promise is false, and what was counted. Numbers of campaigns
are those of [results/reliability](../results/reliability/README.md); the others are those of the tests themselves.
`no` means that nothing was measured yet. This file is generated:
`python docs/generate/reliability.py docs/reliability.md`.

## What is not promised

- **An environment is code.** It runs with your rights, and so do the modules that you let estep import.
- **A model may be poisoned.** A checkpoint that is well formed may hold a policy that somebody has trained to fail.
  Hashes prove that a file is whole, not where it comes from.
- **Equality holds on one machine type.** The same versions, processor, number of threads, device and XLA flags.
  Elsewhere a run goes on from the same state and data, and its numbers may drift; it says so and needs `--allow-drift`.
  The label says what updates do on this machine; it says nothing of an environment that is not deterministic.
- A population is `replayable`: its programs are not made twice.
- No GPU was measured. There the label is decided by the same probe.
- A loss of power is simulated from the order of the calls; no machine was switched off.
"""


def counted(name: str, column: str) -> str:
    """The sum of a column of a table of results, or `no` if there is no such table."""
    if name == "supply":
        text = (ROOT / "requirements.txt").read_text("utf-8")
        return str(text.count("--hash=" if column == "hashes" else "=="))
    path = NUMBERS / f"{name}.csv"
    if not path.is_file():
        return NONE
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if column == "rows":
        return f"{len(rows):,}"
    values = [row[column] for row in rows if row[column]]
    if set(values) <= {"True", "False"}:
        return f"{values.count('True'):,}"
    return f"{sum(int(value) for value in values):,}" if column != "threads" else max(values)


def number_of(text: str) -> str:
    """The last cell of a row."""
    found = [counted(*names) for names in re.findall(r"\{(\w+):(\w+)\}", text)]
    rest = iter(found)
    return NONE if NONE in found else re.sub(r"\{\w+:\w+\}", lambda match: next(rest), text)


def promises() -> list[dict[str, str]]:
    """The rows of the table."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def link(test: str) -> str:
    """A link to a test."""
    file, _, name = test.partition("::")
    return f"[{name.removeprefix('test_').replace('_', ' ')}](../tests/{file})"


def markdown() -> str:
    """The whole page."""
    parts, title = [HEAD], ""
    for row in promises():
        if row["section"] != title:
            title = row["section"]
            parts.append(f"\n## {title}\n\n| id | promise | test | number |\n|---|---|---|---|\n")
        tests = "; ".join(link(test) for test in row["tests"].split())
        parts.append(f"| {row['id']} | {row['sentence']} | {tests} | {number_of(row['number'])} |\n")
    return "".join(parts)


if __name__ == "__main__":
    storage.write_atomic(Path(sys.argv[1]).absolute(), markdown().encode())
