"""The comparison of the runs of a sweep: `SWEEP/report.html`, and its tables and figures in `SWEEP/compare/`.

A process of its own makes them while runs go on, so that the sweep imports no library for figures and cannot fail here:
`python -m estep.sweeps.page SWEEP`.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

from estep.errors import EstepError
from estep.runs import reading, storage
from estep.runs.folder import EVALUATIONS
from estep.sweeps import plan
from estep.sweeps.lines import folder_of

REPORT = "report.html"
COMPARE = "compare"
PAUSE = 60.0
"""Least seconds between two makings of the page."""
PATIENCE = 300.0
"""Seconds that the last one may take."""


class Page:
    """The process that makes the page, and whether there is something new to show."""

    changed = False
    process: subprocess.Popen[bytes] | None = None
    started = -PAUSE


def follow(sweep: Path, page: Page, last: bool = False) -> None:
    """Make the page anew, if a run has ended since and the last making is a while ago; at the end wait for it."""
    if page.process is not None and (last or page.process.poll() is not None):
        _wait(page.process)
        page.process = None
    if not page.changed or page.process is not None or (not last and time.monotonic() < page.started + PAUSE):
        return
    words = [sys.executable, "-m", "estep.sweeps.page", str(sweep)]
    quiet = subprocess.DEVNULL
    page.changed, page.started = False, time.monotonic()
    page.process = subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    if last:
        _wait(page.process)


def _wait(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)


def write(sweep: Path) -> list[Path]:
    """Compare all runs that have been evaluated; returns the files, of which there are none without an evaluation.

    Raises:
        RejectedInput: the seeds of a curve have no step in common.
        StorageFailure: the disk fails.
    """
    folders = [folder for run in plan.read(sweep) if has_evaluations(folder := folder_of(sweep, run.id))]
    if not folders:
        return []
    from estep.comparing import comparison, figures, page, writing
    from estep.comparing.sources import Found
    from estep.plots import labels, learning_curves

    found = labels.newest(map(learning_curves.points, folders))
    if not found:
        return []
    out = sweep / COMPARE
    storage.make_dir(out)
    compared = comparison.compare(Found(found, []))
    made = page.write(compared, out / page.NAME)
    storage.write_atomic(sweep / REPORT, reading.read_path(made, 1 << 30))
    return [*writing.write(compared, found, out), *figures.draw(compared, out), made, sweep / REPORT]


def has_evaluations(folder: Path) -> bool:
    """Whether a run, or a seed of a population, has been evaluated."""
    return any((path / EVALUATIONS).is_file() for path in (folder, *folder.glob("members/*")))


if __name__ == "__main__":
    with contextlib.suppress(EstepError):
        write(Path(sys.argv[1]))
