"""Writes a comparison as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from estep.comparing.comparison import Comparison
from estep.comparing.summary import Pair, Place, Row
from estep.plots import learning_curves
from estep.plots.learning_curves import Point
from estep.runs import tables


def write(found: Comparison, points: Sequence[Point], out: Path) -> list[Path]:
    """Write all tables into a folder that exists; returns the files.

    Args:
        found: the comparison.
        points: its evaluations.
        out: the folder.
    """
    drawn = [row for task in found.tasks for rows in task.drawn.values() for row in rows]
    files = learning_curves.write_tables(points, drawn, out)
    files.append(write_statistics(found, out / "statistics.csv"))
    files.append(tables.write(out / "pairs.csv", Pair._fields, [pair for one in found.whole for pair in one.pairs]))
    for name, places in (
        ("profiles", [place for one in found.whole for place in one.profile]),
        ("efficiency", [place for one in found.whole for place in one.efficiency]),
    ):
        files += [tables.write(out / f"{name}.csv", Place._fields, places)] if places else []
    return files


def write_statistics(found: Comparison, path: Path) -> Path:
    """Write each statistic of each curve as one table; returns its path."""
    return tables.write(path, Row._fields, [row for one in found.whole for row in one.rows])
