"""`estep config show` and `estep config diff`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from estep.cli.main import Context
from estep.cli.parse import Help, parse
from estep.cli.resolve import resolve
from estep.errors import UsageError, unknown
from estep.settings import schema

USAGE = """usage: estep config show RUN|ALGO [--env ID] [--preset NAME]
       estep config diff A B [--env ID] [--preset NAME]"""


@dataclass(frozen=True)
class Show:
    """Print all settings of a run, or of an algorithm in an environment, as JSON."""

    of: str
    """Folder of a run, or the name of an algorithm."""
    env: str = ""
    """Environment, whose preset is applied to an algorithm."""
    preset: str = "auto"
    """Name of a preset, auto for the preset of the environment, or none."""


@dataclass(frozen=True)
class Diff:
    """Print the settings that differ between two runs or algorithms."""

    a: str
    """Folder of a run, or the name of an algorithm."""
    b: str
    """Folder of a second run, or the name of a second algorithm."""
    env: str = ""
    """Environment, whose preset is applied to an algorithm."""
    preset: str = "auto"
    """Name of a preset, auto for the preset of the environment, or none."""


def config(arguments: list[str], context: Context) -> int:
    """Print a configuration, or the difference of two."""
    actions = {"show": show, "diff": diff}
    if arguments and arguments[0] in actions:
        return actions[arguments[0]](arguments[1:], context)
    if {"-h", "--help"} & set(arguments):
        raise Help(USAGE)
    if arguments and not arguments[0].startswith("-"):
        raise unknown("command config", arguments[0], actions, "Give estep config show or estep config diff.")
    raise UsageError("No action was given to estep config.", "Give estep config show or estep config diff.")


def show(arguments: list[str], context: Context) -> int:
    """Print a configuration."""
    values, _ = parse("estep config show", str(Show.__doc__), schema.of(Show), ("of",), arguments)
    settings = _configuration(values["of"], values)
    context.results.say(json.dumps(settings, indent=1))
    return context.results.finish(0, {"config": settings})


def diff(arguments: list[str], context: Context) -> int:
    """Print the settings that differ between two configurations."""
    values, _ = parse("estep config diff", str(Diff.__doc__), schema.of(Diff), ("a", "b"), arguments)
    a, b = (_flat(_configuration(values[name], values)) for name in ("a", "b"))
    names = [name for name in {**a, **b} if name not in a or name not in b or a[name] != b[name]]
    differences = {name: [a.get(name), b.get(name)] for name in names}
    lines = [f"{name}: {json.dumps(before)} -> {json.dumps(after)}" for name, (before, after) in differences.items()]
    context.results.say("\n".join(lines) or "no difference")
    return context.results.finish(0, {"differences": differences})


def _configuration(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a run, or what it would be for an algorithm. Raises UsageError, RejectedInput."""
    row = schema.find(name)
    if row is not None:
        resolved = resolve(row, values["env"], values["preset"], {})
        algorithm = {"name": name, **resolved.algorithm}
        env = {"id": values["env"] or None}
        return {"algorithm": algorithm, "env": env, "run": resolved.run, "preset": resolved.preset}
    if not Path(name).exists():
        rows = schema.rows()
        raise unknown("run or algorithm", name, rows, f"Give the folder of a run, or one of: {', '.join(rows)}.")
    from estep.runs.folder import RunFolder

    return RunFolder.open(name).read_config()


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one table with dotted names. Tuples become lists."""
    table: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            table.update(_flat(value, f"{prefix}{name}."))
        else:
            table[prefix + name] = list(value) if isinstance(value, tuple) else value
    return table
