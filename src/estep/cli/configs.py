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
from estep.errors import RejectedInput, UsageError, unknown
from estep.settings import renamed, schema
from estep.settings.schema import Row

USAGE = """usage: estep config show RUN|ALGO [--env ID] [--preset NAME]
       estep config diff A [B] [--env ID] [--preset NAME]"""


@dataclass(frozen=True)
class Show:
    """Print all settings of a run, or of an algorithm in an environment, as JSON."""

    of: str
    """Folder of a run, or the name of an algorithm."""
    env: str = ""
    """Environment, whose preset is applied to an algorithm."""
    preset: str = "auto"
    """Name of a preset, auto for the preset of the environment, or none."""
    trust_dir: bool = False
    """Read a run folder that other users may write to, whom you trust."""


@dataclass(frozen=True)
class Diff:
    """Print the settings that differ between two runs or algorithms, or between one of them and its defaults and its
    preset."""

    a: str
    """Folder of a run, or the name of an algorithm."""
    b: str | None = None
    """Folder of a second run, or the name of a second algorithm. None takes the defaults and the preset of A."""
    env: str = ""
    """Environment, whose preset is applied to an algorithm."""
    preset: str = "auto"
    """Name of a preset, auto for the preset of the environment, or none."""
    trust_dir: bool = False
    """Read a run folder that other users may write to, whom you trust."""


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
    """Print the settings that differ between two configurations, or from the defaults and the preset."""
    values, _ = parse("estep config diff", str(Diff.__doc__), schema.of(Diff), ("a", "b"), arguments)
    a = _configuration(values["a"], values)
    if values["b"] is None:
        return _diff_defaults(a, _row_of(a, values["a"]), context)
    before, after = (_settings(one) for one in (a, _configuration(values["b"], values)))
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    differences = {name: [before.get(name), after.get(name)] for name in names}
    lines = [f"{name}: {json.dumps(old)} -> {json.dumps(new)}" for name, (old, new) in differences.items()]
    context.results.say("\n".join(lines) or "no difference")
    return context.results.finish(0, {"differences": differences})


def _row_of(config: Mapping[str, Any], typed: str) -> Row:
    """The algorithm of a configuration. A run folder alone never makes estep import a module."""
    name = config["algorithm"].get("name")
    row = schema.find(typed) or schema.rows().get(name)
    if row is None:
        what = f"The defaults of {name} are in a module that this command does not import."
        raise UsageError(what, "Give a second run to compare with.")
    return row


def _diff_defaults(config: Mapping[str, Any], row: Row, context: Context) -> int:
    """Print the settings of one configuration that differ from the defaults, or from its preset."""
    preset = config["preset"]
    sources = {"default": resolve(row, "", "none", {}), "preset": resolve(row, "", preset or "none", {})}
    known = {
        name: _settings({"algorithm": {"name": row.name, **one.algorithm}, "run": one.run, "env": {}})
        for name, one in sources.items()
    }
    differences = {}
    for name, value in _settings(config).items():
        found = {source: table.get(name) for source, table in known.items() if preset or source == "default"}
        if name not in UNCOMPARED and any(value != other for other in found.values()):
            differences[name] = {**found, "value": value}
    lines = [
        f"{name}: {', '.join(f'{key} {json.dumps(value)}' for key, value in found.items())}"
        for name, found in differences.items()
    ]
    of = f"the defaults and the preset {preset}" if preset else "the defaults"
    context.results.say("\n".join(lines) or f"no difference from {of}")
    return context.results.finish(0, {"differences": differences, "preset": preset})


UNCOMPARED = ("algorithm.name", "env.id", "preset")
"""What has no default."""


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
    from estep.runs import reading
    from estep.runs.folder import RunFolder

    with reading.trusting(values["trust_dir"]):
        return RunFolder.open(name).read_config()


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a configuration by today's names, and what chose them; no format or other bookkeeping.

    A setting that is newer than the run has its default. Tuples become lists.
    """
    if not all(isinstance(config.get(part), Mapping) for part in ("algorithm", "run", "env")):
        raise RejectedInput("config.json does not have the parts algorithm, run and env.", "Give the folder of a run.")
    name = config["algorithm"].get("name")
    head = {"algorithm.name": name, "env.id": config["env"].get("id"), "preset": config.get("preset")}
    table = {key: value for key, value in head.items() if value is not None}
    row = schema.rows().get(name)
    for part, fields in {"algorithm": row.fields if row else (), "run": schema.run_fields()}.items():
        defaults = {field.name: field.default for field in fields}
        given = {key: value for key, value in config[part].items() if key != "name"}
        for key, value in {**defaults, **renamed.settings(given, defaults)}.items():
            table[f"{part}.{key}"] = list(value) if isinstance(value, tuple) else value
    return table
