"""Reports the progress of a run on stderr: a progress bar on a terminal, else a line per minute.

In a notebook it is a line every ten seconds.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from estep import terminal
from estep.policy.job import Reporter

EVERY = 60.0
"""Seconds between two lines of progress."""
EVERY_IN_NOTEBOOK = 10.0
_KNOWN = ("env_steps", "updates", "env_steps_per_s")


def describe(record: Mapping[str, float]) -> str:
    """The known numbers as text: speed, remaining time, returns, successes, value of the E-step and its improvement by
    iterations, temperature, KLs with their bounds, effective sample size, and share of the steps to which the policy is
    fitted."""
    speed, eta = record.get("env_steps_per_s"), record.get("eta_s")
    returns, best = _number(record, "return"), _number(record, "best")
    value, gain = _number(record, "e/value"), _number(record, "e/improvement")
    parts = [
        f"{speed:,.0f} step/s" if speed is not None and math.isfinite(speed) else "",
        f"eta {_duration(eta)}" if eta is not None and math.isfinite(eta) else "",
        f"return {returns}" if returns else "",
        f"success {record['success']:.0%}" if "success" in record else "",
        f"best {best}" if best else "",
        f"value {value}" + (f" (+{gain})" if gain and not gain.startswith("-") else f" ({gain})" if gain else "")
        if value
        else "",
        f"alpha {_number(record, 'm/alpha')}" if "m/alpha" in record else "",
        *(_bounded(record, name) for name in record if f"{name}_bound" in record),
        f"ess {_number(record, 'e/ess')}" if "e/ess" in record else "",
        f"kept {record['e/kept']:.0%}" if "e/kept" in record else "",
    ]
    return " · ".join(part for part in parts if part)


def _bounded(record: Mapping[str, float], name: str) -> str:
    """A KL with its bound."""
    what = name.removeprefix("m/").replace("_", " ")
    return f"{what} {_number(record, name)} of {_number(record, name + '_bound')}"


def _number(record: Mapping[str, float], name: str) -> str:
    value = record.get(name)
    return "" if value is None else f"{value:.4g}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


class Plain:
    """Lines on stderr."""

    def __init__(self, known: dict[str, Any]) -> None:
        """Start without a line. The run folder and the progress so far are written into `known`."""
        self._known = known
        self._next = -math.inf
        self._every = EVERY_IN_NOTEBOOK if "ipykernel" in sys.modules else EVERY

    def started(self, run_dir: Path) -> None:
        """Remember the run folder, for the result of a run that fails."""
        self._known["run_dir"] = str(run_dir)

    def note(self, text: str) -> None:
        """Write a line."""
        terminal.say(text + "\n")

    def progress(self, record: Mapping[str, float]) -> None:
        """Write a line, unless the last line is less than a minute old."""
        _remember(self._known, record)
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every
            share = record["env_steps"] / max(record["steps"], 1)
            terminal.say(f"{share:6.1%}  {record['env_steps']:,.0f} steps · {describe(record)}\n")


class Bar:
    """A progress bar of rich. Notes are printed above it."""

    def __init__(self, known: dict[str, Any], bar: Any, task: Any) -> None:
        self._known = known
        self._bar = bar
        self._task = task

    def started(self, run_dir: Path) -> None:
        """Remember the run folder, for the result of a run that fails."""
        self._known["run_dir"] = str(run_dir)

    def note(self, text: str) -> None:
        """Write a line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def progress(self, record: Mapping[str, float]) -> None:
        """Update the bar."""
        _remember(self._known, record)
        self._bar.update(self._task, completed=record["env_steps"], total=record["steps"], text=describe(record))


def _remember(known: dict[str, Any], record: Mapping[str, float]) -> None:
    known.update({name: record[name] for name in _KNOWN if name in record})


def _no_bar(shown: bool) -> None:
    """Ignore that a progress bar is shown."""


@contextmanager
def reporter(known: dict[str, Any], drawing: Callable[[bool], None] = _no_bar) -> Iterator[Reporter]:
    """A reporter with a progress bar if stderr is a terminal, else with lines.

    Args:
        known: where the run folder and the progress so far are written, in case the run ends early.
        drawing: called with True when a progress bar is shown, which hides the cursor, and with False at its end.
    """
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield Plain(known)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (BarColumn(bar_width=24), TaskProgressColumn(), TextColumn("{task.fields[text]}", markup=False))
    console = Console(file=cast(Any, terminal.Patient()))
    with Progress(*columns, console=console, refresh_per_second=4) as bar:
        drawing(True)
        yield Bar(known, bar, bar.add_task("train", total=None, text="starting"))
    drawing(False)
