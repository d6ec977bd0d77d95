"""Writes what shows a run that has ended: its learning curve and its report."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from estep.errors import describe
from estep.plots.curves import draw_population, draw_run
from estep.report import page
from estep.runs.folder import MEMBERS, RunFolder

PATIENCE = 60.0
"""Seconds that they may take."""


def write_if_possible(run_dir: Path, note: Callable[[str], None]) -> None:
    """Write the learning curve and the report, with a note on each file, or on why there is none: no run may fail here.

    A thread writes them, so that a disk that does not answer cannot keep the run from its end.
    """
    found: list[str] = []
    context = contextvars.copy_context()
    thread = threading.Thread(
        target=context.run, args=(lambda: found.extend(_written(run_dir)),), name="estep-views", daemon=True
    )
    thread.start()
    thread.join(PATIENCE)
    for line in found or [f"note     no learning curve and no report: they were not written within {PATIENCE:g} s"]:
        note(line)


def _written(run_dir: Path) -> Iterator[str]:
    """A line for each file."""
    try:
        draw = draw_population if (run_dir / MEMBERS).is_dir() else draw_run
        yield from (f"wrote    {path}" for path in draw(run_dir).values())
    except Exception as error:
        yield f"note     no learning curve was drawn: {describe(error)}"
    try:
        yield f"wrote    {page.write(RunFolder.open(run_dir))[0]}"
    except Exception as error:
        yield f"note     no report was written: {describe(error)}"
