"""`estep algos`, `envs`, `presets` and `explain`: what there is to choose from, and what it means."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

from estep.cli.main import Context
from estep.cli.parse import COMMON, parse
from estep.cli.resolve import row
from estep.cli.results import aligned
from estep.errors import unknown
from estep.settings import glossary, schema
from estep.settings import presets as known_presets
from estep.settings.glossary import Entry
from estep.settings.schema import Row
from estep.settings.search.spaces import space_of


@dataclass(frozen=True)
class Algos:
    """The algorithms: the row of the design table, and every flag with its default."""

    algo: str = ""
    """Show this one only."""
    space: bool = False
    """Show where estep tune looks for settings, in place of the flags."""


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


@dataclass(frozen=True)
class Explain:
    """What a setting, a metric or a term means. Without a name, every name by topic."""

    name: str = ""
    """A setting or its flag, a metric such as e/value, or a term such as posterior."""


def algos(arguments: list[str], context: Context) -> int:
    """List the algorithms."""
    values, _ = parse("estep algos", str(Algos.__doc__), schema.of(Algos), ("algo",), arguments)
    shown = [row(values["algo"])] if values["algo"] else list(schema.rows().values())
    if values["space"]:
        return _spaces(shown, context)
    context.results.say("\n\n".join(_page(found) for found in shown))
    return context.results.finish(0, {"algorithms": [_record(found) for found in shown]})


def _spaces(shown: list[Row], context: Context) -> int:
    """The search spaces of algorithms."""
    found = {one.name: space_of(one.name) for one in shown}
    pages = [[name, "", *aligned([(key, str(where)) for key, where in space.items()])] for name, space in found.items()]
    context.results.say("\n\n".join("\n".join(page) for page in pages))
    texts = {name: {key: str(where) for key, where in space.items()} for name, space in found.items()}
    return context.results.finish(0, {"spaces": texts})


def _page(found: Row) -> str:
    lines = aligned([(field.flag, _value(field.default), field.help) for field in found.fields])
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


def explain(arguments: list[str], context: Context) -> int:
    """Tell what a name means."""
    options = {"-h", "--help", *(field.flag for field in COMMON)}
    words = " ".join(word.removeprefix("--") for word in arguments if word not in options)
    argv = [*([words] if words else []), *(word for word in arguments if word in options)]
    values, _ = parse("estep explain", str(Explain.__doc__), schema.of(Explain), ("name",), argv)
    name = values["name"]
    if not name:
        topics = {topic: list(dict.fromkeys(_names(topic))) for topic in glossary.TOPICS}
        text = "\n\n".join(f"{topic}\n{_columns(names)}" for topic, names in topics.items())
        context.results.say(f"{text}\n\nestep explain NAME tells what a name means.")
        return context.results.finish(0, {"topics": topics})
    found = glossary.find(name)
    if not found:
        raise unknown("setting, metric or term", name, glossary.known_names(), "estep explain lists all of them.")
    context.results.say("\n\n".join(map(_explained, found)))
    return context.results.finish(0, {"explained": [entry._asdict() | {"facts": dict(entry.facts)} for entry in found]})


def _names(topic: str) -> list[str]:
    return [entry.name for entry in glossary.entries() if entry.topic == topic]


def _columns(names: list[str]) -> str:
    whole = ", ".join(name.replace(" ", "\N{NO-BREAK SPACE}") for name in names)
    text = textwrap.fill(whole, 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return text.replace("\N{NO-BREAK SPACE}", " ")


def _explained(entry: Entry) -> str:
    lines = [(label, textwrap.wrap(text, 84, break_on_hyphens=False)) for label, text in entry.facts]
    facts = [f"  {label if i == 0 else '':14s}{line}" for label, wrapped in lines for i, line in enumerate(wrapped)]
    return "\n".join([f"{entry.name}  ·  {entry.topic}", "", *textwrap.wrap(entry.meaning, 100), "", *facts]).rstrip()
