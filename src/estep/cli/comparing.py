"""`estep report` and `estep compare`: one run as a page, and several runs beside each other."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

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
    """Compare several runs: a page with their learning curves, statistics over seeds with intervals, and what each two
    of them differ in; also as tables and figures. Runs that differ in the seed alone are one curve. With --inspected,
    merge what estep inspect measured in them instead. estep compare OUT RUN ... writes page, tables and figures into
    the folder OUT."""

    runs: tuple[str, ...]
    """Folders of runs, folders in which there are runs, or files named latest. An evaluations.csv that estep compare
    wrote, or its folder, stands for the runs in it. Of a run that is given twice, the last counts. Without --out,
    --csv and --figures, a first folder that holds no run is the folder of all output."""
    out: Path | None = None
    """The page, one HTML file. Without it, --csv and --figures it is compare.html."""
    csv: Path | None = None
    """Folder of all tables; or a file.csv for the statistics alone."""
    figures: Path | None = None
    """Folder of figures as PNG and SVG."""
    at: str = "end"
    """Number of environment steps at which the runs are compared, or end: where the shortest one ends."""
    by: Literal["task"] | None = None
    """task: compare runs on several environments, on each of them and over all."""
    reference: str | None = None
    """A file.csv with the columns task, low and high, or a name such as control-suite: returns become scores, which are
    0 at low and 1 at high, so that they are compared over tasks. None compares returns."""
    inspected: bool = False
    """Merge the measurements of estep inspect instead: improvement, gap, calibration, critics, transfer, staleness,
    realised gain, model. The folder OUT comes first."""
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
    """Statistics, curves and differences of several runs."""
    values, _ = parse("estep compare", str(Compare.__doc__), schema.of(Compare), ("runs",), arguments)
    outputs, named = _outputs(values)

    from estep.runs import reading

    reading.trust(values["trust_dir"])
    written = _inspected(outputs, named) if values["inspected"] else _compared(values, outputs, named)
    names = "\n".join(f"         {path}" for path in written.files)
    notes = "\n".join(f"note     {note}" for note in written.record.get("notes", ()))
    context.results.say(f"wrote    {len(written.files)} files\n{names}\n{notes}".rstrip())
    files = {path.name: str(path) for path in written.files}
    return context.results.finish(0, {"files": files, "comparison": written.record})


class Outputs(NamedTuple):
    """Where a comparison is written."""

    page: Path | None
    csv: Path | None
    figures: Path | None
    folder: bool
    """Whether all of it is in one folder, which was given first."""


class Written(NamedTuple):
    """What a command wrote."""

    files: list[Path]
    record: dict[str, Any]


def _outputs(values: Mapping[str, Any]) -> tuple[Outputs, list[Path]]:
    """Where the comparison goes, and what is compared. Raises UsageError where that is not clear."""
    paths = [Path(text) for text in values["runs"]]
    usage = "Give the runs and the page: estep compare RUN RUN --out compare.html."
    if not paths:
        raise UsageError("estep compare is given no run.", usage)
    from estep.comparing.page import NAME
    from estep.comparing.sources import holds_a_run

    chosen = [values[name] for name in ("out", "csv", "figures")]
    first = paths[0]
    if any(chosen) or holds_a_run(first):
        if values["inspected"]:
            what = "--inspected merges tables into one folder, which is not given."
            raise UsageError(what, "Give the folder first: estep compare OUT RUN RUN --inspected.")
        page = values["out"] if any(chosen) else Path(NAME)
        if page is not None and (page.is_dir() or page.suffix == ".csv"):
            raise UsageError(f"{page} is not the name of a page.", f"Give a file such as {page.with_suffix('.html')}.")
        return Outputs(page, values["csv"], values["figures"], False), paths
    if len(paths) < 2:
        raise UsageError(f"estep compare is given no run: {first} is none, and holds none.", usage)
    return Outputs(first / NAME, first, first, True), paths[1:]


def _inspected(outputs: Outputs, named: list[Path]) -> Written:
    from estep.comparing.sources import members
    from estep.plots import across_runs, measured

    sources = [one for path in named for one in ([path] if measured.made_before(path) else members(path))]
    assert outputs.csv is not None  # the folder comes first
    files = across_runs.write(sources, outputs.csv)
    if not files:
        what = f"There is no measurement of estep inspect in {', '.join(map(str, named))}."
        raise RejectedInput(what, "Run estep inspect on each of them first.")
    return Written(files, {})


def _compared(values: Mapping[str, Any], outputs: Outputs, named: list[Path]) -> Written:
    """Write the page, the tables and the figures that were asked for."""
    at = values["at"]
    if at != "end" and not (at.isascii() and at.isdigit() and int(at) > 0):
        raise UsageError(f"--at {at} is no number of steps.", "Give --at a number of environment steps, or end.")

    from estep.comparing import comparison, page, reference, sources, writing
    from estep.runs import storage

    scale = None if values["reference"] is None else reference.read(values["reference"])
    found = sources.read(named)
    if not outputs.folder:
        found = comparison.check(found, values["by"] == "task")
    compared = comparison.compare(found, at, scale)
    files = []
    if outputs.csv is not None:
        if outputs.csv.suffix == ".csv":
            storage.make_dir(outputs.csv.absolute().parent)
            files.append(writing.write_statistics(compared, outputs.csv))
        else:
            storage.make_dir(outputs.csv)
            files += writing.write(compared, found.points, outputs.csv)
    if outputs.figures is not None:
        from estep.comparing import figures

        storage.make_dir(outputs.figures)
        files += figures.draw(compared, outputs.figures)
    if outputs.page is not None:
        storage.make_dir(outputs.page.absolute().parent)
        files.append(page.write(compared, outputs.page))
    return Written(files, compared.record)
