"""`estep sweep status`, `cancel` and `collect`: what has become of a sweep, stop it, and compare its runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from estep.cli.main import Context
from estep.cli.parse import parse
from estep.cli.sweeping.sweep import report
from estep.errors import RejectedInput
from estep.settings import schema
from estep.sweeps import plan, status
from estep.sweeps.plan import Run
from estep.sweeps.status import State

ABOUT = {
    "status": "What has become of every run of a sweep, read from the run folders.",
    "cancel": "Stop a sweep and all of its runs, which are saved first. estep sweep SWEEP goes on with it.",
    "collect": "Compare the runs of a sweep: its report.html, and tables and figures in its folder compare.",
}


@dataclass(frozen=True)
class Watch:
    """A sweep."""

    sweep: Path
    """Folder of the sweep."""


def watch(name: str, arguments: list[str], context: Context) -> int:
    """Run one of the three commands."""
    values, _ = parse(f"estep sweep {name}", ABOUT[name], schema.of(Watch), ("sweep",), arguments)
    folder = values["sweep"].absolute()
    runs = plan.read(folder)
    return {"status": _status, "cancel": _cancel, "collect": _collect}[name](folder, runs, context)


def _status(folder: Path, runs: tuple[Run, ...], context: Context) -> int:
    states = status.read(folder, runs)
    status.write(folder, states)
    total = status.counts(states)
    lines = [_line(run, state) for run, state in zip(runs, states, strict=True)]
    lines += ["", ", ".join(f"{count} {name}" for name, count in total.items() if count)]
    context.results.say("\n".join(lines))
    record = {"sweep": str(folder), "counts": total, "runs": [state._asdict() for state in states]}
    return context.results.finish(0, record)


def _line(run: Run, state: State) -> str:
    """A run in one line."""
    steps = "" if state.env_steps is None else f"{state.env_steps:,} steps"
    returns = "" if state.eval_mean is None else f"return {state.eval_mean:.5g}"
    error = "" if state.error is None else f"exit {state.exit_code}: {state.error}"
    parts = [steps, returns, status.settings_in_words(run), error]
    return f"{state.state:8s} {run.id}  {' · '.join(part for part in parts if part)}".rstrip()


def _cancel(folder: Path, runs: tuple[Run, ...], context: Context) -> int:
    from estep.sweeps import cancel

    cancel.cancel(folder, runs)
    return report(folder, status.read(folder, runs), context)


def _collect(folder: Path, runs: tuple[Run, ...], context: Context) -> int:
    from estep.sweeps import page

    files = page.write(folder)
    if not files:
        raise RejectedInput(f"There is no evaluation in {folder} yet.", "Train its runs up to their first evaluation.")
    context.results.say("\n".join(f"wrote    {path}" for path in files))
    return context.results.finish(0, {"sweep": str(folder), "files": {path.name: str(path) for path in files}})
