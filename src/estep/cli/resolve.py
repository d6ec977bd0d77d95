"""The configuration of a command line: the defaults, then the settings of a preset, then the flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from estep.cli.results import Results
from estep.errors import unknown
from estep.settings import presets, references, schema
from estep.settings.schema import Row


class Resolved(NamedTuple):
    """The settings of the algorithm and of the run by name, and the preset's name if there is one."""

    algorithm: dict[str, Any]
    run: dict[str, Any]
    preset: str | None


def row(name: str) -> Row:
    """The algorithm of a name or of a `module:Class`. Raises UsageError with the nearest name if it is unknown."""
    algorithm = schema.find(name)
    if algorithm is None:
        references.check_no_file(name)
        known = [*schema.rows(), *references.installed()]
        listing = f"Give one of: {', '.join(known)}; or module:Class for your own algorithm."
        raise unknown("algorithm", name, known, listing)
    return algorithm


def resolve(row: Row, env: str, preset: str, flags: Mapping[str, Any]) -> Resolved:
    """The value of every setting.

    Args:
        row: the algorithm.
        env: the environment.
        preset: name of a preset, auto or none.
        flags: the settings that the user gave.

    Raises:
        UsageError: the preset is unknown.
    """
    chosen = presets.find(row.name, env, preset)
    changes = presets.changes(chosen, flags)
    algorithm = {field.name: changes.get(field.name, field.default) for field in row.fields}
    run = {field.name: changes.get(field.name, field.default) for field in schema.run_fields()}
    return Resolved(algorithm, run, chosen.name if chosen else None)


def read_env(given: Sequence[str]) -> Any:
    """The environment of --env, or the tasks. Their modules are imported, and their ids looked up.

    Raises:
        UsageError: none is given, two have one name, or one is malformed or unknown.
    """
    from estep.envs.ids import register
    from estep.envs.tasks.sources import read_envs, sources

    env = read_envs(tuple(given))
    for source in sources(env):
        register(str(source))
    return env


def run_folder(path: Path, results: Results, trusted: bool) -> Path:
    """The run folder of a path. From now on every result of the command contains it.

    Args:
        path: the folder, or a file `latest`.
        results: the results of the command.
        trusted: whether the user trusts everybody who may write to the folder.

    Raises:
        RejectedInput: it is no run folder, or it is unsafe.
    """
    from estep.runs import reading
    from estep.runs.folder import RunFolder

    reading.trust(trusted)
    folder = RunFolder.open(path).path
    results.known["run_dir"] = str(folder)
    return folder
