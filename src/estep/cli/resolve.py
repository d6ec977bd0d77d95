"""The configuration that a command line means: defaults, changed by a preset, changed by the flags that were given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from estep.cli.parse import unknown
from estep.cli.results import Results
from estep.settings import presets, references, schema
from estep.settings.schema import Row


class Resolved(NamedTuple):
    """Values by field, of the algorithm and of the run, and the preset's name if one applied."""

    algorithm: dict[str, Any]
    run: dict[str, Any]
    preset: str | None


def row(name: str) -> Row:
    """The algorithm of this name, or of a `module:Class`. Raises UsageError naming the nearest."""
    found = schema.find(name)
    if found is None:
        known = [*schema.rows(), *references.installed()]
        raise unknown("algorithm", name, known, f"Give one of: {', '.join(known)}; or module:Class for your own.")
    return found


def resolve(found: Row, env: str, preset: str, flags: Mapping[str, Any]) -> Resolved:
    """Every field's value; `preset` is a preset's name, auto or none. Raises UsageError for an unknown preset."""
    chosen = presets.find(found.name, env, preset)
    changes = {**(chosen.changes if chosen else {}), **flags}
    algorithm = {field.name: changes.get(field.name, field.default) for field in found.fields}
    run = {field.name: changes.get(field.name, field.default) for field in schema.run_fields()}
    return Resolved(algorithm, run, chosen.name if chosen else None)


def run_folder(path: Path, results: Results) -> Path:
    """The run folder that a path names; a result of any kind names it from here on. Raises RejectedInput."""
    from estep.runs.folder import RunFolder

    folder = RunFolder.open(path).path
    results.known["run_dir"] = str(folder)
    return folder
