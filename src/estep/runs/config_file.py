"""A run's configuration as JSON and back: a closed schema, from which alone the agent is rebuilt."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from estep.algorithms import ALGORITHMS, Algorithm
from estep.errors import EstepError, RejectedInput
from estep.settings.run import RunConfig

FORMAT = 1


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


def name_of(algorithm: Algorithm) -> str:
    """The name of an algorithm on the command line."""
    return next(name for name, row in ALGORITHMS.items() if type(algorithm) is row)


def encode(recipe: Recipe) -> dict[str, Any]:
    """The fully resolved configuration."""
    return {
        "format": FORMAT,
        "algorithm": {"name": recipe.name, **dataclasses.asdict(recipe.algorithm)},
        "env": {"id": recipe.env, "by_id": recipe.by_id},
        "run": dataclasses.asdict(recipe.run),
        "preset": recipe.preset,
    }


def differences(recipe: Recipe) -> dict[str, Any]:
    """What differs from the defaults of the algorithm and of a run, by field."""
    pairs = ((recipe.algorithm, type(recipe.algorithm)()), (recipe.run, RunConfig()))
    return {
        field.name: getattr(ours, field.name)
        for ours, default in pairs
        for field in dataclasses.fields(ours)
        if getattr(ours, field.name) != getattr(default, field.name)
    }


def decode(record: Mapping[str, Any]) -> Recipe:
    """The configuration of a run folder.

    Raises:
        RejectedInput: an unknown, missing or ill-typed field, or a newer format.
    """
    try:
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']} is not {FORMAT}")
        _same_keys(record, ("format", "algorithm", "env", "run", "preset"))
        algorithm = dict(record["algorithm"])
        name = algorithm.pop("name")
        env = record["env"]
        _same_keys(env, ("id", "by_id"))
        if not (isinstance(env["id"], str) and isinstance(env["by_id"], bool)):
            raise ValueError("env has fields of the wrong type")
        row = ALGORITHMS[name]
        preset = record["preset"]
        if not (preset is None or isinstance(preset, str)):
            raise ValueError("preset is not a name")
        return Recipe(name, _build(row, algorithm), env["id"], env["by_id"], _build(RunConfig, record["run"]), preset)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, EstepError) as error:
        reason = str(error).partition("\n")[0]
        raise RejectedInput(
            f"config.json is not a configuration of this version: {type(error).__name__}: {reason}.",
            "Use the version of estep that made the run, named in its run.json.",
        ) from error


def _same_keys(table: Mapping[str, Any], wanted: tuple[str, ...]) -> None:
    odd = set(table) ^ set(wanted)
    if odd:
        raise ValueError(f"the field {min(odd)} is unknown or missing")


def _build(kind: Any, values: Mapping[str, Any]) -> Any:
    """A configuration dataclass from exactly its fields, each of its default's type (an int may stand for a float)."""
    default, hints = kind(), get_type_hints(kind)
    fields = tuple(field.name for field in dataclasses.fields(kind))
    _same_keys(values, fields)
    for name in fields:
        choices = get_args(hints[name]) if get_origin(hints[name]) is Literal else None
        if choices and values[name] not in choices:
            raise ValueError(f"{name} is none of {', '.join(choices)}")
    return kind(**{name: _like(name, getattr(default, name), values[name]) for name in fields})


def _like(name: str, default: Any, value: Any) -> Any:
    if isinstance(default, tuple):
        if not (isinstance(value, list | tuple) and all(type(item) is int for item in value)):
            raise ValueError(f"{name} is not a list of whole numbers")
        return tuple(value)
    if default is None and value is None:
        return None
    if isinstance(default, float | None) and type(value) in (int, float):
        return float(value)
    if type(value) is not type(default):
        raise ValueError(f"{name} is not a {type(default).__name__}")
    return value
