"""`estep report` and `estep compare`: one run as a page, and several runs beside each other."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from estep.cli.main import Context
from estep.cli.parse import parse
from estep.errors import RejectedInput, UsageError, check
from estep.settings import schema


@dataclass(frozen=True)
class Report:
    """Write the report of a run: one HTML file that holds its curves, its health and its settings, and needs no
    network. Training writes it at each evaluation and at the end; this command makes it anew, for example after estep
    inspect."""

    run: Path
    """Folder of the run, or a file `latest` that has the folder's name. The run may be going on."""
    out: Path | None = None
    """The file. Without it report.html in the run folder."""
    member: int | None = None
    """The seed of a population, counted from 0. Without it the returns of all seeds are shown."""
    open: bool = False
    """Show the report in the browser."""
    trust_dir: bool = False
    """Read a run folder that other users may write to, whom you trust."""


@dataclass(frozen=True)
class Compare:
    """Compare several runs: their evaluations and learning curves as tables, a figure for each environment, and a page
    with their differences. Runs that differ in the seed alone share a curve, with an interval over seeds. With
    --inspected, merge what estep inspect measured in them instead."""

    out: Path
    """Folder of the tables and figures. It is made if it does not exist; files of the same names are replaced."""
    runs: tuple[str, ...]
    """Folders of runs, or files named latest that name them. A folder or an evaluations.csv that estep compare wrote
    stands for the runs in it. Of a run that is given twice, the last counts."""
    inspected: bool = False
    """Merge the measurements of estep inspect instead: improvement, gap, calibration, critics, transfer, staleness."""
    trust_dir: bool = False
    """Read a run folder that other users may write to, whom you trust."""


def report(arguments: list[str], context: Context) -> int:
    """Write the report of a run."""
    values, _ = parse("estep report", str(Report.__doc__), schema.of(Report), ("run",), arguments)
    number, out = values["member"], values["out"]
    check("member", number is None or number >= 0, number, "at least 0")
    if out is not None and out.is_dir():
        raise UsageError(
            f"{out} is a folder, and the report is one file.", f"Give a file: --out {out / 'report.html'}."
        )

    from estep.report import page
    from estep.runs import reading, storage
    from estep.runs.folder import RunFolder, member_path

    reading.trust(values["trust_dir"])
    folder = RunFolder.open(values["run"])
    if number is not None and not member_path(folder.path, number).is_dir():
        raise UsageError(f"{folder.path} has no member {number}.", "Leave --member out, or give one that the run has.")
    if out is not None:
        storage.make_dir(out.absolute().parent)
    path, found = page.write(folder, out, number)
    context.results.say(f"wrote    {path}")
    if values["open"] and not webbrowser.open_new_tab(path.absolute().as_uri()):
        context.results.say("note     there is no browser here")
    return context.results.finish(0, {"file": str(path), "report": found})


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
        from estep.plots import comparison, labels, learning_curves

        found = labels.newest(map(learning_curves.points, sources))
        storage.make_dir(out)
        rows = learning_curves.curves(found)
        files = [*learning_curves.write(found, rows, out), comparison.write(found, rows, out)] if found else []
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
