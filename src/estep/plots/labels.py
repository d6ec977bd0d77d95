"""Which run a line of a table is about, and the label of its curve in a figure.

Tables over several runs begin with the same four columns: environment, algorithm, settings and seed. The column
`settings` holds all settings of the run as a JSON object, so that it means the same when a default changes. A setting
that is newer than the table has its default, which is the behaviour of before. A label names those settings in which
the curves of one figure differ.

Tables of before have a column `changes` instead: what the run changed from the defaults of its time, such as
`beta=1.0 warmup=500`. They are read as {"changes": {"beta": 1.0, "warmup_steps": 500}}. The other settings of such runs
are not known, so their labels name what was recorded.
"""

from __future__ import annotations

import csv
import functools as ft
import json
import os
from collections.abc import Collection, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

from estep.errors import RejectedInput
from estep.plots.wording import label
from estep.runs import strict, tables
from estep.runs.folder import CONFIG, RunFolder
from estep.settings import renamed, schema

LABEL_FIELDS = "env", "algorithm", "settings", "seed"
"""The first columns of every table over several runs."""
IGNORED_FIELDS = (
    *("seed", "population", "steps", "eval_every", "eval_episodes", "log", "log_every", "replay_size"),
    *("checkpoint_every", "checkpoint_minutes", "keep_checkpoints", "record_every"),
    *("env_timeout", "env_workers", "retry_env"),
)
"""Settings in which the runs of one curve may differ."""
CHANGES = "changes"

Curve: TypeAlias = tuple[str, str]
"""Algorithm and settings, as tables have them."""
R = TypeVar("R", bound=tuple[Any, ...])


class Recorded(NamedTuple):
    """What a table holds of a run's settings, without those of IGNORED_FIELDS."""

    values: Mapping[str, Any]
    whole: bool
    """Whether these are all of them."""

    @property
    def key(self) -> Hashable:
        """Equal for equal settings, in whatever order."""
        return self.whole, frozenset((name, _hashable(value)) for name, value in self.values.items())


def run_label(run_dir: Path) -> tuple[str, str, str, int]:
    """Environment, algorithm, all settings as JSON, and seed.

    The algorithm is not imported, so that runs of an algorithm that is gone can be compared too.

    Raises:
        RejectedInput: not a run folder, or its configuration cannot be read.
    """
    config = RunFolder.open(run_dir).read_config()
    try:
        algorithm, run = dict(config["algorithm"]), dict(config["run"])
        env, name, seed = str(config["env"]["id"]), str(algorithm.pop("name")), int(run["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise RejectedInput(
            f"{run_dir / CONFIG} is not the configuration of a run: {error!r}.",
            "Restore it from a copy, or leave this run out.",
        ) from error
    return env, name, strict.dump(_settings(name, algorithm, run)).decode(), seed


def _settings(name: str, algorithm: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """All settings by their names of today. One that is newer than the run has its default, as in `config_file`."""
    known, known_of_run = _defaults(name), _defaults("")
    own = known | renamed.settings(algorithm, known)
    of_run = known_of_run | renamed.settings(run, known_of_run)
    # Somebody's algorithm may have a setting of the same name as one of the run.
    return {f"algorithm.{key}" if key in of_run else key: value for key, value in own.items()} | of_run


@ft.cache
def _defaults(algorithm: str) -> dict[str, Any]:
    """The settings of an algorithm of the library, or of a run where the name is empty; none of another algorithm."""
    row = schema.rows().get(algorithm)
    fields = (row.fields if row else ()) if algorithm else schema.run_fields()
    return {field.name: field.default for field in fields}


def read(path: Path, row: type[R], about: Mapping[str, str] | None = None) -> list[R]:
    """A table over several runs, of today or of before; or one of a single run, of which `about` has the label.

    A cell that is empty because its number was not finite is NaN.

    Raises:
        RejectedInput: the file is no such table.
    """

    def cells(line: Mapping[str, str]) -> dict[str, str]:
        return {name: "nan" if text == "" else text for name, text in _line(line, about).items()}

    return tables.read(path, row, cells)


def read_lines(path: Path, about: Mapping[str, str] | None = None) -> list[dict[str, str]]:
    """As `read`, with whatever columns follow the label, and none where there is no file.

    Raises:
        RejectedInput: the file is no such table.
    """
    if not os.path.lexists(path):
        return []
    try:
        return [_line(line, about) for line in tables.cells(path)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise RejectedInput(
            f"{path} is not a table over several runs: {error!r}.", "Give a folder that estep compare wrote."
        ) from error


def about_run(run_dir: Path) -> dict[str, str]:
    """The label of a run folder by column.

    Raises:
        RejectedInput: not a run folder, or its configuration cannot be read.
    """
    return dict(zip(LABEL_FIELDS, map(str, run_label(run_dir)), strict=True))


def _line(line: Mapping[str, str], about: Mapping[str, str] | None) -> dict[str, str]:
    """The cells of a line by the columns of today."""
    found = {**(about or {}), **line}
    if CHANGES in line and "settings" not in line:
        found = {"settings" if name == CHANGES else name: text for name, text in found.items()}
        found["settings"] = strict.dump({CHANGES: _changes(line["algorithm"], line[CHANGES])}).decode()
    return found | {"settings": _completed(found["algorithm"], found["settings"])}


@ft.cache
def _completed(algorithm: str, settings: str) -> str:
    """The column `settings` by today's names. One that is newer than the table has its default, as in `run_label`.

    Raises:
        ValueError: it is not a JSON object.
    """
    found, whole = _parsed(settings)
    known = _defaults(algorithm) | _defaults("")
    values = renamed.settings(found, known)
    here = {name: value for name, value in known.items() if name in values or name not in IGNORED_FIELDS}
    return strict.dump(here | values).decode() if whole else settings


def _changes(algorithm: str, text: str) -> dict[str, Any]:
    """Recorded changes, such as `beta=1.0 warmup=500`, by the names of today."""
    values = dict(change.split("=", 1) for change in text.split())
    return renamed.settings(
        {name: _value(value) for name, value in values.items()}, _defaults(algorithm) | _defaults("")
    )


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@ft.cache
def recorded(settings: str) -> Recorded:
    """What the column `settings` says.

    Raises:
        ValueError: it is not a JSON object.
    """
    values, whole = _parsed(settings)
    return Recorded({name: value for name, value in values.items() if name not in IGNORED_FIELDS}, whole)


@ft.cache
def settings_key(settings: str) -> Hashable:
    """Equal for the column `settings` of runs that share a curve."""
    return recorded(settings).key


def _parsed(settings: str) -> tuple[dict[str, Any], bool]:
    """What a column `settings` holds, and whether these are all settings.

    Raises:
        ValueError: it is not a JSON object.
    """
    found = strict.parse(settings.encode())
    if not isinstance(found, dict):
        raise ValueError("the settings are not a JSON object")
    changes = found.get(CHANGES)
    return (changes, False) if isinstance(changes, dict) else (found, True)


def reached_goal(settings: str, env_steps: int, mean: float) -> bool:
    """Whether a run whose last evaluation this is ended before its number of steps because of --stop-at.

    Example:
        >>> reached_goal('{"steps":100,"stop_at":95.0}', 40, 96.7)
        True
    """
    values, _ = _parsed(settings)
    goal, steps = values.get("stop_at"), values.get("steps")
    return goal is not None and mean >= goal and (steps is None or env_steps < steps)


def shared(settings: str) -> str:
    """The column `settings` for a curve: without what its runs may differ in."""
    values, whole = recorded(settings)
    return strict.dump(values if whole else {CHANGES: values}).decode()


def replaced(settings: str, values: Mapping[str, Any]) -> str:
    """The column `settings` with other values of some settings."""
    found, whole = _parsed(settings)
    found = {**found, **values}
    return strict.dump(found if whole else {CHANGES: found}).decode()


def run_key(row: tuple[Any, ...]) -> Hashable:
    """Equal for the lines of one run, whose first columns are its label."""
    env, algorithm, settings, seed = row[: len(LABEL_FIELDS)]
    return env, algorithm, settings_key(settings), str(seed)


def newest(sources: Iterable[Iterable[R]]) -> list[R]:
    """The lines of all sources, which begin with the label of a run; of a run in several sources, those of the last."""
    runs: dict[Hashable, list[R]] = {}
    for source in sources:
        own: dict[Hashable, list[R]] = {}
        for row in source:
            own.setdefault(run_key(row), []).append(row)
        runs |= own
    return [row for rows in runs.values() for row in rows]


def labels(curves: Iterable[Curve], without: Collection[str] = (), besides: Collection[str] = ()) -> dict[Curve, str]:
    """The label of each curve of one figure: its algorithm, and its value of each setting in which the curves differ.

    Settings in which curves of the same algorithm differ come first.

    Args:
        curves: algorithm and settings of every curve in the figure.
        without: settings that the figure shows otherwise.
        besides: settings that are named too, although the curves do not differ in them.

    Example:
        >>> curves = [("sac", '{"beta":1.0,"tau":0.005}'), ("sac", '{"beta":2.0,"tau":0.005}')]
        >>> list(labels(curves).values())
        ['sac (beta 1)', 'sac (beta 2)']
    """
    known = {curve: recorded(curve[1]) for curve in curves}
    by_algorithm: dict[str, list[Recorded]] = {}
    for (algorithm, _), one in known.items():
        by_algorithm.setdefault(algorithm, []).append(one)
    named = [*besides, *(name for each in by_algorithm.values() for name in _differing(each))]
    named = [name for name in dict.fromkeys([*named, *_differing(known.values())]) if name not in without]
    return {
        curve: label(curve[0], {name: one.values[name] for name in named if name in one.values})
        for curve, one in known.items()
    }


def differing(settings: Iterable[str]) -> list[str]:
    """The names of the settings in which some columns `settings` differ.

    Example:
        >>> differing(['{"beta":1.0,"tau":0.005}', '{"beta":2.0,"tau":0.005}'])
        ['beta']
    """
    return _differing([recorded(one) for one in settings])


def _differing(curves: Collection[Recorded]) -> list[str]:
    """The settings that have several values; and those that a table of before has of some of its curves only."""
    tried: dict[str, set[Hashable]] = {}
    for one in curves:
        for name, value in one.values.items():
            tried.setdefault(name, set()).add(_hashable(value))
    partial = [one.values for one in curves if not one.whole]
    in_some = {name for one in partial for name in one if any(name not in other for other in partial)}
    return sorted(name for name, values in tried.items() if len(values) > 1 or name in in_some)


def _hashable(value: Any) -> Hashable:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
