"""`estep algos`, `estep envs` and `estep presets`: what there is to choose from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from estep.cli.main import Context
from estep.cli.parse import parse, unknown
from estep.cli.resolve import row
from estep.settings import presets as known_presets
from estep.settings import schema
from estep.settings.schema import Row


@dataclass(frozen=True)
class Algos:
    """The algorithms: the row of the design table, and every flag with its default."""

    algo: str = ""
    """Show this one only."""


@dataclass(frozen=True)
class Envs:
    """The ids of Gymnasium's registry. estep trains on those whose observations are boxes of numbers and
    whose actions are a box or one of several choices."""

    filter: str = ""
    """Show the ids that contain this, in any case."""


@dataclass(frozen=True)
class Presets:
    """What the presets change, and where each comes from."""

    algo: str = ""
    """Show those of this algorithm only."""


def algos(arguments: list[str], context: Context) -> int:
    """List the algorithms."""
    values, _ = parse("estep algos", str(Algos.__doc__), schema.of(Algos), ("algo",), arguments)
    shown = [row(values["algo"])] if values["algo"] else list(schema.rows().values())
    context.results.say("\n\n".join(_page(found) for found in shown))
    return context.results.finish(0, {"algorithms": [_record(found) for found in shown]})


def _page(found: Row) -> str:
    lines = [f"  {field.flag:22s}{_value(field.default):14s}{field.help}" for field in found.fields]
    return "\n".join([found.name, "", *(f"  {line}".rstrip() for line in found.table.splitlines()), "", *lines])


def _value(value: Any) -> str:
    return " ".join(str(item) for item in value) if isinstance(value, tuple) else str(value)


def _record(found: Row) -> dict[str, Any]:
    fields = [
        {"name": field.name, "type": field.written, "default": field.default, "help": field.help}
        for field in found.fields
    ]
    return {"name": found.name, "summary": found.summary, "table": found.table, "fields": fields}


def envs(arguments: list[str], context: Context) -> int:
    """List the environments."""
    values, _ = parse("estep envs", str(Envs.__doc__), schema.of(Envs), ("filter",), arguments)

    from estep.envs.build import env_ids

    every = env_ids()
    wanted = values["filter"]
    shown = [name for name in every if wanted.lower() in name.lower()]
    if not shown:
        raise unknown("environment", wanted, every, "estep envs lists them all.")
    context.results.say("\n".join(shown))
    return context.results.finish(0, {"envs": shown})


def presets(arguments: list[str], context: Context) -> int:
    """List the presets."""
    values, _ = parse("estep presets", str(Presets.__doc__), schema.of(Presets), ("algo",), arguments)
    wanted = row(values["algo"]).name if values["algo"] else ""
    shown = [preset for preset in known_presets.presets() if wanted in ("", preset.algorithm)]
    pages = []
    for preset in shown:
        changes = " ".join(f"--{name.replace('_', '-')} {_value(value)}" for name, value in preset.changes.items())
        pages.append(f"{preset.algorithm} {preset.name}\n  {changes}\n  {preset.source}")
    context.results.say("\n".join(pages))
    return context.results.finish(0, {"presets": [preset._asdict() for preset in shown]})
