"""The page of a comparison: one HTML file, in the frame of the report of a run."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from estep.comparing.comparison import Comparison
from estep.comparing.scores import Task
from estep.comparing.summary import Pair, Place, Row, Section
from estep.plots import labels
from estep.plots.learning_curves import Seeds, seeds_label
from estep.report.curves import short
from estep.report.frame import drawing, frame, table
from estep.runs import storage

NAME = "compare.html"
SHARE = "share of seeds above"
Parts: TypeAlias = tuple[list[tuple[str, str, str]], dict[str, Any], dict[str, Any]]
"""Sections of the page, charts by section, and their options."""


def write(found: Comparison, path: Path) -> Path:
    """Write the page, atomically; returns its path.

    Args:
        found: the comparison.
        path: the file, in a folder that exists.

    Raises:
        StorageFailure: the disk fails.
    """
    sections: list[tuple[str, str, str]] = [("compared", "What is compared", _compared(found))]
    charts: dict[str, Any] = {}
    options: dict[str, Any] = {}
    parts = [_over(found.over)] if found.over else []
    parts += [_of_task(i, *both) for i, both in enumerate(zip(found.tasks, found.sections, strict=True))]
    for more, drawn, how in parts:
        sections += more
        charts |= drawn
        options |= how
    title = " and ".join(task.name for task in found.tasks)
    text = frame({"title": title, "status": "comparison", "charts": charts, "options": options}, sections)
    storage.write_atomic(path, text.encode())
    return path


def _compared(found: Comparison) -> str:
    """The notes, and every curve on every task."""
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in found.notes)
    rows = [
        (task.name, settings, seeds_label(curve[-1]), f"{task.at:,}", _text(*_means(section, name)))
        for task, section in zip(found.tasks, found.sections, strict=True)
        for (name, curve), settings in zip(task.drawn.items(), _settings(task), strict=True)
    ]
    head = ("task", "curve with its settings", "seeds", "compared at step", "mean return [95 %]")
    return f"<ul>{notes}</ul>{_wide(rows, head)}"


def _settings(task: Task) -> list[str]:
    """The labels of the curves of a task with all settings in which they differ, also those of other algorithms."""
    known = [(rows[0].algorithm, rows[0].settings) for rows in task.drawn.values()]
    found = labels.labels(known)
    return [found[one] for one in known]


def _means(section: Section, name: str) -> tuple[float, float, float]:
    return next((row.value, row.low, row.high) for row in section.rows if row.curve == name and row.statistic == "mean")


def _over(section: Section) -> Parts:
    """What is known over all tasks."""
    sections = [("over", "Over all tasks", _statistics(section.rows) + _pairs(section))]
    charts, options = {}, {}
    for name, heading, places, axis in (
        ("efficiency", "Sample efficiency: interquartile mean of the scores", section.efficiency, "environment steps"),
        ("profile", f"Performance profile: {SHARE} a score", section.profile, "score"),
    ):
        if places:
            charts[name] = _series(places)
            options[name] = {"x": axis, "label": heading}
            sections.append((name, heading, drawing(charts[name], heading)))
    return sections, charts, options


def _of_task(i: int, task: Task, section: Section) -> Parts:
    """The curves, the statistics and the profile of one task."""
    curves = [_curve(f"{name}, n = {rows[-1].seeds}", rows) for name, rows in task.drawn.items()]
    heading = f"{SHARE[0].upper()}{SHARE[1:]} a return on {task.name}"
    profile = _series(section.profile)
    sections = [
        (f"env{i}", task.name, drawing(curves) + _statistics(section.rows) + _pairs(section)),
        (f"profile{i}", heading, drawing(profile, heading)),
    ]
    charts = {f"env{i}": curves, f"profile{i}": profile}
    return sections, charts, {f"profile{i}": {"x": "return", "label": heading}}


def _curve(name: str, rows: Sequence[Seeds]) -> dict[str, Any]:
    """A learning curve with its interval."""
    return _line(name, [(row.env_steps, row.middle, row.low, row.high) for row in rows])


def _series(places: Sequence[Place]) -> list[dict[str, Any]]:
    """A line for each curve, with its interval and its seeds in the label."""
    found = []
    for name, of in itertools.groupby(places, key=lambda place: place.curve):
        line = list(of)
        label = f"{name}, n = {line[0].seeds}"
        found.append(_line(label, [(one.x, one.value, one.low, one.high) for one in line]))
    return found


def _line(name: str, points: Iterable[tuple[float, float, float, float]]) -> dict[str, Any]:
    xs, *ys = zip(*points, strict=True)
    middle, low, high = ([short(y) if math.isfinite(y) else None for y in side] for side in ys)
    return {"name": name, "curve": [[short(x) for x in xs], middle], "band": [low, high]}


def _statistics(rows: Sequence[Row]) -> str:
    """A table with a line for each curve and a column for each statistic."""
    if not rows:
        return ""
    names, kinds = dict.fromkeys(row.curve for row in rows), list(dict.fromkeys(row.statistic for row in rows))
    cells = {(row.curve, row.statistic): row for row in rows}
    lines = []
    for name in names:
        of_curve = [cells[name, kind] for kind in kinds]
        lines.append((name, str(of_curve[0].seeds), *(_text(row.value, row.low, row.high) for row in of_curve)))
    return _wide(lines, ("curve", "seeds", *kinds))


def _pairs(section: Section) -> str:
    """A table of each two curves."""
    if not section.pairs:
        return ""
    scaled = any(math.isfinite(pair.difference) for pair in section.pairs)
    several = any(row.tasks > 1 for row in section.rows)
    what = f"difference of the {'interquartile ' * several}means [95 %]"
    head = (
        "what it says",
        "first",
        "second",
        *((f"first less second: {what}",) if scaled else ()),
        "probability that a seed of the first is above one of the second",
    )
    return _wide([_pair(pair, scaled) for pair in section.pairs], head)


def _wide(rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """A table that is moved sideways on a narrow screen."""
    return f'<div class="wide" tabindex="0">{table(rows, head)}</div>'


def _pair(pair: Pair, scaled: bool) -> tuple[str, ...]:
    gap = (_text(pair.difference, pair.low, pair.high),) if scaled else ()
    return (
        pair.sentence,
        pair.first,
        pair.second,
        *gap,
        _text(pair.chance, pair.chance_low, pair.chance_high, "{:.2f}"),
    )


def _text(value: float, low: float, high: float, form: str = "{:.5g}") -> str:
    """A number and its interval as text."""
    if not math.isfinite(value):
        return "no number"
    text = form.format(value)
    return text if not math.isfinite(low) else f"{text} [{form.format(low)}, {form.format(high)}]"
