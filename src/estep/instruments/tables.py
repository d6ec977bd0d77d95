"""The results of an inspection as a JSON record and as CSV tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from estep.instruments.gap import Gap
from estep.instruments.improvement import Growth, Improvement, Logged
from estep.instruments.inspection import Gaps, Inspection
from estep.instruments.interval import interval
from estep.instruments.optimisers import Compared
from estep.instruments.play.predictions import Ending, Error
from estep.instruments.play.realised import InState, Realised
from estep.instruments.staleness import Staleness
from estep.instruments.transfer import Transfer
from estep.runs import storage, strict, tables

Table = tuple[Sequence[str], Iterable[Sequence[Any]]]
"""Column names and rows."""
PARTS = ("total", "approximation", "amortisation")


def summary(inspection: Inspection) -> dict[str, Any]:
    """The results without the numbers of single states, pairs and grid points."""
    record: dict[str, Any] = {
        "env_steps": inspection.env_steps,
        "trained_iterations": inspection.trained_iterations,
        "estimate": inspection.estimate,
        "not_measured": inspection.not_measured,
    }
    if inspection.improvement is not None:
        record["improvement"] = [row._asdict() for row in inspection.improvement.curve]
        record["improvement_checkpoints"] = [row._asdict() for row in inspection.improvement.growth]
    if inspection.gap is not None:
        record["gap"] = _gap(inspection.gap)
    if inspection.compare is not None:
        record["compare"] = [row._asdict() for row in inspection.compare.rows]
    if inspection.landscape is not None:
        record["landscape"] = [
            {"state": one.state, "axes": one.names, "low": one.values.min(), "high": one.values.max()}
            for one in inspection.landscape
        ]
    if inspection.modes is not None:
        states, restarts = inspection.modes.value.shape
        counts = inspection.modes.counts
        record["modes"] = {"states": states, "restarts": restarts, "mean": counts.mean(), "counts": counts.tolist()}
    if inspection.transfer is not None:
        record["transfer"] = [row._asdict() for row in inspection.transfer]
    if inspection.staleness is not None:
        record["staleness"] = [row._asdict() for row in inspection.staleness]
    if inspection.calibration is not None:
        one = inspection.calibration
        biases = [row._asdict() for row in one.biases]
        episodes = len({pair.episode for pair in one.pairs})
        record["calibration"] = {"pairs": len(one.pairs), "episodes": episodes, "return": one.kind, "soft": one.soft}
        record["calibration"]["biases"] = biases
    if inspection.realised is not None:
        whole = inspection.realised._asdict()
        rows = [row._asdict() for row in inspection.realised.rows]
        record["realised"] = {name: whole[name] for name in whole if name != "in_states"} | {"rows": rows}
    if inspection.model is not None:
        found = inspection.model
        record["model"] = found._asdict() | {
            "errors": [row._asdict() for row in found.errors],
            "endings": [row._asdict() for row in found.endings],
        }
    return record


def _gap(gaps: Gaps) -> dict[str, Any]:
    """The gap and its parts over states, and two checks of quadrature: against itself and against samples."""
    rows = gaps.rows
    parts = {name: interval([getattr(row, name) for row in rows])._asdict() for name in PARTS}
    record = {"exact": gaps.exact, "states": len(rows), **parts, "smallest_ess": min(row.ess for row in rows)}
    if gaps.exact:
        record["largest_residual"] = max(abs(row.total - row.divergence) for row in rows)
        record["within_3_errors"] = float(np.mean([abs(row.value - row.sampled) <= 3 * row.error for row in rows]))
    return record


def tables_of(inspection: Inspection) -> dict[str, Table]:
    """All tables by the names of their files."""
    made: dict[str, Table] = {}
    if inspection.improvement is not None:
        made["improvement"] = Improvement._fields, inspection.improvement.curve
        made["improvement_checkpoints"] = Growth._fields, inspection.improvement.growth
        made["improvement_training"] = Logged._fields, inspection.improvement.logged
    if inspection.gap is not None:
        rows = [(i, *row, *(getattr(row, name) for name in PARTS)) for i, row in enumerate(inspection.gap.rows)]
        made["gap"] = ("state", *Gap._fields, *PARTS), rows
    if inspection.compare is not None:
        made["compare"] = Compared._fields, inspection.compare.rows
    for one in inspection.landscape or ():
        grid = [(x, y, one.values[j, i]) for j, y in enumerate(one.y) for i, x in enumerate(one.x)]
        made[f"landscape_{one.state}"] = (*one.names, "value"), grid
        paths = [(name, *point) for name, path in one.paths.items() for point in path]
        made[f"landscape_{one.state}_paths"] = ("optimiser", *one.names), paths
    if inspection.modes is not None:
        head = ("state", "restart", "value", "distinct", "share")
        action = [f"action_{i + 1}" for i in range(inspection.modes.action.shape[2])]
        made["modes"] = (*head, *action), _ends(inspection.modes)
    if inspection.transfer is not None:
        made["transfer"] = Transfer._fields, inspection.transfer
    if inspection.staleness is not None:
        made["staleness"] = Staleness._fields, inspection.staleness
    if inspection.calibration is not None:
        made["calibration"] = type(inspection.calibration.biases[0])._fields, inspection.calibration.biases
        made["calibration_pairs"] = type(inspection.calibration.pairs[0])._fields, inspection.calibration.pairs
    if inspection.realised is not None:
        made["realised"] = Realised._fields, inspection.realised.rows
        made["realised_states"] = InState._fields, inspection.realised.in_states
    if inspection.model is not None:
        made["model"] = Error._fields, inspection.model.errors
        made["model_endings"] = Ending._fields, inspection.model.endings
    return made


def _ends(modes: Any) -> Iterable[Sequence[Any]]:
    for (i, j), value in np.ndenumerate(modes.value):
        yield i, j, value, int(modes.distinct[i, j]), modes.share[i, j], *modes.action[i, j]


def write(inspection: Inspection, out: Path) -> dict[str, str]:
    """Write inspection.json and all tables as CSV into a folder. Returns the paths by file name.

    Raises:
        StorageFailure: the disk is full, is read-only or reports errors.
    """
    storage.make_dir(out)
    files = {"inspection.json": out / "inspection.json"}
    storage.write_atomic(files["inspection.json"], strict.dump(summary(inspection), indent=1) + b"\n")
    for name, (head, rows) in tables_of(inspection).items():
        files[f"{name}.csv"] = tables.write(out / f"{name}.csv", head, rows)
    return {name: str(path) for name, path in files.items()}
