"""`estep compare`: several runs beside each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from estep.cli.main import Context
from estep.cli.parse import parse
from estep.errors import RejectedInput, UsageError
from estep.settings import schema


@dataclass(frozen=True)
class Compare:
    """Compare several runs: their evaluations and learning curves as tables, and a figure for each environment. Runs
    that differ in the seed alone share a curve, with an interval over seeds. With --inspected, merge what estep inspect
    measured in them instead."""

    out: Path
    """Folder of the tables and figures. It is made if it does not exist; files of the same names are replaced."""
    runs: tuple[str, ...]
    """Folders of runs, or files named latest that name them. A folder or an evaluations.csv that estep compare wrote
    stands for the runs in it. Of a run that is given twice, the last counts."""
    inspected: bool = False
    """Merge the measurements of estep inspect instead: improvement, gap, calibration, critics, transfer, staleness."""
    trust_dir: bool = False
    """Read a run folder that other users may write to, whom you trust."""


def compare(arguments: list[str], context: Context) -> int:
    """Tables and learning curves of several runs."""
    values, _ = parse("estep compare", str(Compare.__doc__), schema.of(Compare), ("out", "runs"), arguments)
    out: Path = values["out"]
    _check(values)

    from estep.runs import reading, storage
    from estep.runs.folder import LATEST, RunFolder

    reading.trust(values["trust_dir"])
    named = [Path(run) for run in values["runs"]]
    sources = [RunFolder.open(path).path if path.name == LATEST else path for path in named]
    if values["inspected"]:
        from estep.plots import across_runs  # which needs JAX

        files = across_runs.write(sources, out)
        missing, fix = "no measurement of estep inspect", "Run estep inspect on each of them first."
    else:
        from estep.plots import labels, learning_curves

        found = labels.newest(map(learning_curves.points, sources))
        storage.make_dir(out)
        files = learning_curves.write(found, out) if found else []
        missing, fix = "no evaluation", "Train them up to their first evaluation."
    if not files:
        raise RejectedInput(f"There is {missing} in {', '.join(map(str, named))}.", fix)
    names = "\n".join(f"         {path.name}" for path in files)
    context.results.say(f"wrote    {len(files)} tables and figures to {out}\n{names}")
    return context.results.finish(0, {"files": {path.name: str(path) for path in files}})


def _check(values: dict[str, Any]) -> None:
    """Refuse a folder of tables that was forgotten, and no run."""
    usage = "Give the folder of tables and figures first, then the runs: estep compare OUT RUN RUN."
    if not values["runs"]:
        raise UsageError("estep compare is given no run.", usage)
    if (values["out"] / "run.json").is_file() or values["out"].suffix == ".csv":
        raise UsageError(f"{values['out']} is a run or a table, and tables cannot be written into it.", usage)
