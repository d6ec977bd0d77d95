"""Writes and reads config.json, from which a run's agent is built again.

The file has every setting, also those with their defaults. If a setting is missing, it is newer than the file and gets
its default. So the default of a new setting must be the behaviour before it existed; tests with the runs of every
release check this.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from estep.algorithms import ALGORITHMS
from estep.algorithms.named import class_of
from estep.core.agent import Algorithm
from estep.errors import EstepError, RejectedInput, UsageError
from estep.runs import strict
from estep.settings import references, renamed
from estep.settings.kinds import hints_of, kind_of
from estep.settings.run import RunConfig
from estep.settings.schema import check_recordable

FORMAT = 2
READ = (1, 2)
"""Formats that can be read. In format 1 some settings have other names."""


class TaskRecord(NamedTuple):
    """One of several environments."""

    name: str
    env: str
    """What makes it: an id with its arguments, or the name of a function."""
    by_id: bool


class Recipe(NamedTuple):
    """The content of config.json."""

    name: str
    """The algorithm's name on the command line."""
    algorithm: Algorithm
    env: str
    """The environment's name: a Gymnasium id, or the name of a function."""
    by_id: bool
    """Whether the name is a Gymnasium id."""
    run: RunConfig
    preset: str | None
    tasks: tuple[TaskRecord, ...] = ()
    """Several environments; empty with one. `env` is then the name of all of them."""


def encode(recipe: Recipe) -> dict[str, Any]:
    """The configuration with every setting, as JSON values.

    Raises:
        UsageError: a setting of the algorithm has no JSON value.
    """
    algorithm: Any = recipe.algorithm
    for field in dataclasses.fields(algorithm):
        check_recordable(field.name, recipe.name, getattr(algorithm, field.name))
    return {
        "format": FORMAT,
        "algorithm": {"name": recipe.name, **dataclasses.asdict(algorithm)},
        "env": {"id": recipe.env, "by_id": recipe.by_id, **_encoded(recipe.tasks)},
        "run": dataclasses.asdict(recipe.run),
        "preset": recipe.preset,
    }


def _encoded(tasks: tuple[TaskRecord, ...]) -> dict[str, Any]:
    """The field `tasks`, which a run with one environment does not have."""
    return {"tasks": [{"name": task.name, "id": task.env, "by_id": task.by_id} for task in tasks]} if tasks else {}


def check_readable(recipe: Recipe) -> None:
    """Refuse, before training, a configuration that no later process could read back.

    Settings of the library are checked by their types; an algorithm of somebody's own may have others.

    Raises:
        UsageError: a setting has no JSON value, or not the type of the setting's default.
    """
    fix = "Give every setting a value of the type of its default."
    try:
        read = decode(strict.parse(strict.dump(encode(recipe))), allow_import=True)
    except RejectedInput as error:
        raise UsageError(f"The settings of {recipe.name} could not be read back. {error.what}", fix) from error
    if encode(read) != encode(recipe):
        raise UsageError(f"The settings of {recipe.name} would be read back with other values.", fix)


def differences(recipe: Recipe) -> dict[str, Any]:
    """The settings that differ from the defaults of the algorithm and of a run, by name."""
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
        record: the content of config.json.
        allow_import: whether the modules that it names may be imported.

    Raises:
        RejectedInput: a field is unknown or has the wrong type, or the format is newer.
        UsageError: the configuration names a module, and allow_import is False.
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
        _require_consent("algorithm", name, allow_import)
    kind = class_of(name)
    try:
        row, run = _build(kind, algorithm), _build(RunConfig, record["run"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, EstepError) as error:
        raise _rejected(error) from error
    for part, reference in _references(row):
        _require_consent(part, reference, allow_import)
    env = record["env"]
    tasks = tuple(TaskRecord(task["name"], task["id"], task["by_id"]) for task in env.get("tasks", ()))
    return Recipe(name, row, env["id"], env["by_id"], run, record["preset"], tasks)


def _check_envelope(record: Mapping[str, Any]) -> None:
    """Check the fields that are not settings."""
    version = record["format"]
    if type(version) is not int or version not in READ:
        raise ValueError(f"format {version} is not one of {', '.join(map(str, READ))}")
    _same_keys(record, ("format", "algorithm", "env", "run", "preset"))
    env, preset = record["env"], record["preset"]
    _same_keys(env, ("id", "by_id", *(("tasks",) if "tasks" in env else ())))
    tasks = env.get("tasks", [])
    for task in tasks:
        _same_keys(task, ("name", "id", "by_id"))
    named = all(isinstance(task["name"], str) for task in tasks)
    if not (isinstance(tasks, list) and named and all(map(_is_env, (env, *tasks)))):
        raise ValueError("env has fields of the wrong type")
    if len({task["name"] for task in tasks}) < len(tasks) or len(tasks) == 1:
        raise ValueError("its tasks are not several")
    if not (preset is None or isinstance(preset, str)):
        raise ValueError("preset is not a name")


def _is_env(env: Mapping[str, Any]) -> bool:
    return isinstance(env["id"], str) and isinstance(env["by_id"], bool)


def _rejected(error: Exception) -> RejectedInput:
    reason = str(error).partition("\n")[0]
    return RejectedInput(
        f"This version of estep cannot read config.json: {type(error).__name__}: {reason}.",
        "Use the version of estep that made the run. Its run.json says which.",
    )


def _require_consent(part: str, reference: str, allow_import: bool) -> None:
    if not allow_import:
        raise UsageError(
            f"This run's {part} needs the module {reference.partition(':')[0]}, which estep does not import by itself.",
            f"If you trust {reference}, give --allow-import (in Python allow_import=True).",
        )


def modules_of(recipe: Recipe) -> list[str]:
    """The modules outside estep of the algorithm and of its parts, each once."""
    named = [
        *([recipe.name] if references.is_reference(recipe.name) else []),
        *(text for _, text in _references(recipe.algorithm)),
    ]
    return list(dict.fromkeys(text.partition(":")[0] for text in named))


def _references(row: Any) -> list[tuple[str, str]]:
    """The settings whose value is a reference `module:name` to code outside estep, and their values."""
    kind: Any = type(row)
    hints = hints_of(kind)
    named = [(field.name, getattr(row, field.name)) for field in dataclasses.fields(row)]
    return [(name, value) for name, value in named if kind_of(hints[name]).choices and references.is_reference(value)]


def _same_keys(table: Mapping[str, Any], wanted: tuple[str, ...]) -> None:
    wrong = set(table) ^ set(wanted)
    if wrong:
        raise ValueError(f"the field {min(wrong)} is unknown or missing")


def _build(kind: Any, values: Mapping[str, Any]) -> Any:
    """Build a dataclass from its fields, with old names replaced by new ones. A value must have the type of the
    field's default (an int is allowed for a float). A missing field gets its default."""
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    given = renamed.settings(values, defaults)
    unknown = set(given) - set(defaults)
    if unknown:
        raise ValueError(f"the field {min(unknown)} is unknown")
    return kind(**{name: _convert(name, defaults[name], value) for name, value in given.items()})


def _convert(name: str, default: Any, value: Any) -> Any:
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


def one_seed(recipe: Recipe) -> Recipe:
    """The recipe of one run. Raises RejectedInput for that of a population."""
    if recipe.run.population is not None:
        what = f"This run is a population of {recipe.run.population} seeds, not one run."
        fix = "Choose a seed by --member 0 (in Python estep.load_population(RUN)[0]), or write all by estep split RUN."
        raise RejectedInput(what, fix)
    return recipe
