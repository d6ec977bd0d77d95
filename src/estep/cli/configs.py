"""`estep config show` and `estep config diff`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from estep.cli.main import Context
from estep.cli.parse import Help, parse, unknown
from estep.cli.resolve import resolve
from estep.errors import UsageError
from estep.settings import schema

USAGE = """usage: estep config show RUN|ALGO [--env ID] [--preset NAME]
       estep config diff A B [--env ID] [--preset NAME]"""


@dataclass(frozen=True)
class Show:
    """The resolved configuration of a run, or of an algorithm on an environment, as JSON."""

    of: str
    """Folder of a run, or the name of an algorithm."""
    env: str = ""
    """Environment whose preset applies to an algorithm."""
    preset: str = "auto"
    """A preset's name, auto for the environment's own, or none."""


@dataclass(frozen=True)
class Diff:
    """The fields in which two configurations differ."""

    a: str
    """Folder of a run, or the name of an algorithm."""
    b: str
    """Another."""
    env: str = ""
    """Environment whose preset applies to an algorithm."""
    preset: str = "auto"
    """A preset's name, auto for the environment's own, or none."""


def config(arguments: list[str], context: Context) -> int:
    """Show a configuration, or the difference of two."""
    actions = {"show": show, "diff": diff}
    if arguments and arguments[0] in actions:
        return actions[arguments[0]](arguments[1:], context)
    if {"-h", "--help"} & set(arguments):
        raise Help(USAGE)
    if arguments and not arguments[0].startswith("-"):
        raise unknown("command config", arguments[0], actions, "Give estep config show or estep config diff.")
    raise UsageError("estep config needs to know what to do.", "Give estep config show or estep config diff.")


def show(arguments: list[str], context: Context) -> int:
    """Print a configuration."""
    values, _ = parse("estep config show", str(Show.__doc__), schema.of(Show), ("of",), arguments)
    found = _configuration(values["of"], values)
    context.results.say(json.dumps(found, indent=1))
    return context.results.finish(0, {"config": found})


def diff(arguments: list[str], context: Context) -> int:
    """Print the fields in which two configurations differ."""
    values, _ = parse("estep config diff", str(Diff.__doc__), schema.of(Diff), ("a", "b"), arguments)
    one, other = (_flat(_configuration(values[name], values)) for name in ("a", "b"))
    names = [name for name in {**one, **other} if name not in one or name not in other or one[name] != other[name]]
    found = {name: [one.get(name), other.get(name)] for name in names}
    lines = [f"{name}: {json.dumps(before)} -> {json.dumps(after)}" for name, (before, after) in found.items()]
    context.results.say("\n".join(lines) or "no difference")
    return context.results.finish(0, {"differences": found})


def _configuration(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config.json, or what it would be for an algorithm. Raises UsageError, RejectedInput."""
    found = schema.find(name)
    if found is not None:
        resolved = resolve(found, values["env"], values["preset"], {})
        algorithm = {"name": name, **resolved.algorithm}
        env = {"id": values["env"] or None}
        return {"algorithm": algorithm, "env": env, "run": resolved.run, "preset": resolved.preset}
    if not Path(name).exists():
        rows = schema.rows()
        raise unknown("run or algorithm", name, rows, f"Give the folder of a run, or one of: {', '.join(rows)}.")
    from estep.runs.folder import RunFolder

    return RunFolder.open(name).read_config()


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with dotted names and JSON's own types."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{prefix}{name}."))
        else:
            found[prefix + name] = list(value) if isinstance(value, tuple) else value
    return found
