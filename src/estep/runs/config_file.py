"""A run's configuration as JSON and back: a closed schema, from which alone the agent is rebuilt.

Every setting is written, also those that have their defaults. A setting that a file lacks is newer than the file and
takes its default, so the default of a new setting is always the behaviour of before; tests over the runs of every
release hold that rule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, get_type_hints

from estep.algorithms import ALGORITHMS
from estep.algorithms.named import class_of
from estep.core.agent import Algorithm
from estep.errors import EstepError, RejectedInput, UsageError
from estep.settings import references, renamed
from estep.settings.kinds import kind_of
from estep.settings.run import RunConfig

FORMAT = 2
READ = (1, 2)
"""Formats that can be read. The first had other names for some settings."""


class Recipe(NamedTuple):
    """What config.json says."""

    name: str
    """The algorithm's name on the command line."""
    algorithm: Algorithm
    env: str
    """What the environment is called: a Gymnasium id, or the name of a function."""
    by_id: bool
    """Whether the name alone makes the environment."""
    run: RunConfig
    preset: str | None


def encode(recipe: Recipe) -> dict[str, Any]:
    """The fully resolved configuration.

    Raises:
        UsageError: a setting of the algorithm is nothing that JSON has.
    """
    algorithm: Any = recipe.algorithm
    for field in dataclasses.fields(algorithm):
        if not _is_plain(getattr(algorithm, field.name)):
            raise UsageError(
                f"The setting {field.name} of {recipe.name} cannot be recorded: {getattr(algorithm, field.name)!r}.",
                "Use numbers, texts, true, false, None or tuples of them; name a function of yours as module:function.",
            )
    return {
        "format": FORMAT,
        "algorithm": {"name": recipe.name, **dataclasses.asdict(algorithm)},
        "env": {"id": recipe.env, "by_id": recipe.by_id},
        "run": dataclasses.asdict(recipe.run),
        "preset": recipe.preset,
    }


def differences(recipe: Recipe) -> dict[str, Any]:
    """What differs from the defaults of the algorithm and of a run, by field."""
    algorithm: Any = recipe.algorithm
    pairs: tuple[tuple[Any, Any], ...] = ((algorithm, type(algorithm)()), (recipe.run, RunConfig()))
    return {
        field.name: getattr(ours, field.name)
        for ours, default in pairs
        for field in dataclasses.fields(ours)
        if getattr(ours, field.name) != getattr(default, field.name)
    }


def decode(record: Mapping[str, Any], *, allow_import: bool = False) -> Recipe:
    """The configuration of a run folder.

    Args:
        record: what config.json says.
        allow_import: whether modules that it names may be imported.

    Raises:
        RejectedInput: an unknown or ill-typed field, or a newer format.
        UsageError: it names a module, and that may not be imported.
    """
    try:
        _check_envelope(record)
        algorithm = dict(record["algorithm"])
        name = algorithm.pop("name")
        if not isinstance(name, str):
            raise ValueError("the algorithm has no name")
        known = name in ALGORITHMS or name in references.installed()
        if not known and not references.is_reference(name):
            raise ValueError(f"there is no algorithm {name}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _rejected(error) from error
    if not known:
        _ask("algorithm", name, allow_import)
    kind = class_of(name)
    try:
        row, run = _build(kind, algorithm), _build(RunConfig, record["run"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, EstepError) as error:
        raise _rejected(error) from error
    for part, reference in _references(row):
        _ask(part, reference, allow_import)
    return Recipe(name, row, record["env"]["id"], record["env"]["by_id"], run, record["preset"])


def _check_envelope(record: Mapping[str, Any]) -> None:
    """What stands around the settings."""
    found = record["format"]
    if type(found) is not int or found not in READ:
        raise ValueError(f"format {found} is not one of {', '.join(map(str, READ))}")
    _same_keys(record, ("format", "algorithm", "env", "run", "preset"))
    env, preset = record["env"], record["preset"]
    _same_keys(env, ("id", "by_id"))
    if not (isinstance(env["id"], str) and isinstance(env["by_id"], bool)):
        raise ValueError("env has fields of the wrong type")
    if not (preset is None or isinstance(preset, str)):
        raise ValueError("preset is not a name")


def _rejected(error: Exception) -> RejectedInput:
    reason = str(error).partition("\n")[0]
    return RejectedInput(
        f"config.json is not a configuration of this version: {type(error).__name__}: {reason}.",
        "Use the version of estep that made the run, named in its run.json.",
    )


def _ask(part: str, reference: str, allow_import: bool) -> None:
    if not allow_import:
        raise UsageError(
            f"This run's {part} would import the module {reference.partition(':')[0]}.",
            f"If you trust {reference}, give --allow-import, or allow_import=True in Python.",
        )


def _references(row: Any) -> list[tuple[str, str]]:
    """The settings that name a part of somebody's own, with what they name."""
    hints = get_type_hints(type(row), include_extras=True)
    named = [(field.name, getattr(row, field.name)) for field in dataclasses.fields(row)]
    return [(name, value) for name, value in named if kind_of(hints[name]).choices and references.is_reference(value)]


def _same_keys(table: Mapping[str, Any], wanted: tuple[str, ...]) -> None:
    odd = set(table) ^ set(wanted)
    if odd:
        raise ValueError(f"the field {min(odd)} is unknown or missing")


def _build(kind: Any, values: Mapping[str, Any]) -> Any:
    """A configuration dataclass from its fields, by their names of today, each of the type of its default (an int may
    stand for a float). What is missing takes its default."""
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    given = renamed.settings(values, defaults)
    odd = set(given) - set(defaults)
    if odd:
        raise ValueError(f"the field {min(odd)} is unknown")
    return kind(**{name: _like(name, defaults[name], value) for name, value in given.items()})


def _like(name: str, default: Any, value: Any) -> Any:
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple):
            raise ValueError(f"{name} is not a list")
        return tuple(value)
    if default is None or value is None:
        return value
    if isinstance(default, float) and type(value) in (int, float):
        return float(value)
    if type(value) is not type(default):
        raise ValueError(f"{name} is not a {type(default).__name__}")
    return value


def _is_plain(value: Any) -> bool:
    """Whether JSON has a value, tuples as lists."""
    if isinstance(value, tuple):
        return all(_is_plain(item) for item in value)
    return value is None or type(value) in (bool, int, float, str)
