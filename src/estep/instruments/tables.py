"""What an inspection found, as a record for JSON and as tables for CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from estep.instruments.gap import Gap
from estep.instruments.improvement import Improvement, Logged
from estep.instruments.inspection import Gaps, Growth, Inspection
from estep.instruments.interval import interval
from estep.instruments.optimisers import Compared
from estep.instruments.staleness import Staleness
from estep.instruments.transfer import Transfer
from estep.runs import storage, strict, tables

Table = tuple[Sequence[str], Iterable[Sequence[Any]]]
"""Column names and rows."""
PARTS = ("total", "approximation", "amortisation")


def summary(found: Inspection) -> dict[str, Any]:
    """Everything but the single states, pairs and grid points."""
    record: dict[str, Any] = {
        "env_steps": found.env_steps,
        "trained_iterations": found.trained_iterations,
        "not_measured": found.not_measured,
    }
    if found.improvement is not None:
        record["improvement"] = [row._asdict() for row in found.improvement.curve]
        record["improvement_checkpoints"] = [row._asdict() for row in found.improvement.growth]
    if found.gap is not None:
        record["gap"] = _gap(found.gap)
    if found.compare is not None:
        record["compare"] = [row._asdict() for row in found.compare.rows]
    if found.landscape is not None:
        record["landscape"] = [
            {"state": one.state, "axes": one.names, "low": one.values.min(), "high": one.values.max()}
            for one in found.landscape
        ]
    if found.modes is not None:
        states, restarts = found.modes.value.shape
        counts = found.modes.counts
        record["modes"] = {"states": states, "restarts": restarts, "mean": counts.mean(), "counts": counts.tolist()}
    if found.transfer is not None:
        record["transfer"] = [row._asdict() for row in found.transfer]
    if found.staleness is not None:
        record["staleness"] = [row._asdict() for row in found.staleness]
    if found.calibration is not None:
        one = found.calibration
        biases = [row._asdict() for row in one.biases]
        episodes = len({pair.episode for pair in one.pairs})
        record["calibration"] = {"pairs": len(one.pairs), "episodes": episodes, "soft": one.soft, "biases": biases}
    return record


def _gap(found: Gaps) -> dict[str, Any]:
    """The parts over states, and by how much quadrature fails to agree with itself and with draws."""
    rows = found.rows
    parts = {name: interval([getattr(row, name) for row in rows])._asdict() for name in PARTS}
    record = {"exact": found.exact, "states": len(rows), **parts, "smallest_ess": min(row.ess for row in rows)}
    if found.exact:
        record["largest_residual"] = max(abs(row.total - row.divergence) for row in rows)
        record["within_3_errors"] = float(np.mean([abs(row.value - row.sampled) <= 3 * row.error for row in rows]))
    return record


def tables_of(found: Inspection) -> dict[str, Table]:
    """Every table, by the name of its file."""
    made: dict[str, Table] = {}
    if found.improvement is not None:
        made["improvement"] = Improvement._fields, found.improvement.curve
        made["improvement_checkpoints"] = Growth._fields, found.improvement.growth
        made["improvement_training"] = Logged._fields, found.improvement.logged
    if found.gap is not None:
        rows = [(i, *row, *(getattr(row, name) for name in PARTS)) for i, row in enumerate(found.gap.rows)]
        made["gap"] = ("state", *Gap._fields, *PARTS), rows
    if found.compare is not None:
        made["compare"] = Compared._fields, found.compare.rows
    for one in found.landscape or ():
        grid = [(x, y, one.values[j, i]) for j, y in enumerate(one.y) for i, x in enumerate(one.x)]
        made[f"landscape_{one.state}"] = (*one.names, "value"), grid
        paths = [(name, *point) for name, path in one.paths.items() for point in path]
        made[f"landscape_{one.state}_paths"] = ("optimiser", *one.names), paths
    if found.modes is not None:
        head = ("state", "restart", "value", "distinct", "share")
        action = [f"action_{i + 1}" for i in range(found.modes.action.shape[2])]
        made["modes"] = (*head, *action), _ends(found.modes)
    if found.transfer is not None:
        made["transfer"] = Transfer._fields, found.transfer
    if found.staleness is not None:
        made["staleness"] = Staleness._fields, found.staleness
    if found.calibration is not None:
        made["calibration"] = type(found.calibration.biases[0])._fields, found.calibration.biases
        made["calibration_pairs"] = type(found.calibration.pairs[0])._fields, found.calibration.pairs
    return made


def _ends(found: Any) -> Iterable[Sequence[Any]]:
    for (i, j), value in np.ndenumerate(found.value):
        yield i, j, value, int(found.distinct[i, j]), found.share[i, j], *found.action[i, j]


def write(found: Inspection, out: Path) -> dict[str, str]:
    """Every table as CSV, and inspection.json, in a folder that is made; returns the files by name.

    Raises:
        StorageFailure: the disk is full, read-only or failing.
    """
    storage.make_dir(out)
    files = {"inspection.json": out / "inspection.json"}
    storage.write_atomic(files["inspection.json"], strict.dump(summary(found), indent=1) + b"\n")
    for name, (head, rows) in tables_of(found).items():
        files[f"{name}.csv"] = tables.write(out / f"{name}.csv", head, rows)
    return {name: str(path) for name, path in files.items()}
