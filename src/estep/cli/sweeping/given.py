"""Reads what runs a sweep has, from the command line or a TOML file, and checks every value before anything runs."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from estep.cli.parse import parse
from estep.cli.resolve import read_env, row
from estep.errors import UsageError, unknown
from estep.runs import reading
from estep.settings import kinds, renamed, schema
from estep.settings.schema import Field
from estep.sweeps import plan
from estep.sweeps.plan import Product

LARGEST_SEED = 2**32 - 1
MOST_SEEDS = 100_000
KEYS = ("algorithms", "env", "seeds", "preset", "out", "set", "grid")
"""What a TOML file may have."""


class Given(NamedTuple):
    """What a user gives, values as text."""

    algorithms: Sequence[str]
    envs: Sequence[str]
    """Each is one environment, or several with blanks between them, which are tasks."""
    seeds: str
    preset: str
    settings: Mapping[str, str]
    """Settings of all runs by name, or by ALGO.name for those of one algorithm."""
    grid: Mapping[str, Sequence[str]]
    """Likewise, with several values each."""
    out: Path | None = None


def seeds(text: str) -> list[int]:
    """The seeds of a text such as `0..4` or `0,3,7..9`.

    Raises:
        UsageError: it is malformed, empty, too large, or names a seed twice.

    Example:
        >>> seeds("0..2,7")
        [0, 1, 2, 7]
    """
    fix = "Give --seeds such as 0..4, which is 0 to 4, or 0,3,7."
    found: list[int] = []
    for part in text.replace(" ", ",").split(","):
        first, dots, last = part.partition("..")
        ends = (first, last) if dots else (first, first)
        if not all(end.isascii() and end.isdigit() and len(end) <= 10 and int(end) <= LARGEST_SEED for end in ends):
            raise UsageError(f"--seeds is {text!r:.100}, in which {part!r:.100} is no seed.", fix)
        low, high = map(int, ends)
        if high < low:
            raise UsageError(f"--seeds has {part!r}, which is empty.", f"Give {high}..{low}.")
        if high - low >= MOST_SEEDS:
            raise UsageError(f"--seeds has {part!r}, which are more than {MOST_SEEDS:,} seeds.", "Give fewer of them.")
        found += range(low, high + 1)
    if len(set(found)) != len(found):
        raise UsageError(f"--seeds is {text!r:.100}, which names a seed twice.", fix)
    return found


def read_file(path: Path) -> Given:
    """The sweep of a TOML file. Raises UsageError."""
    try:
        content = tomllib.loads(reading.read_path(path, 1 << 20).decode("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}.", "Give a TOML file with algorithms, env and seeds."
        ) from error
    for key in content:
        if key not in KEYS:
            raise unknown(f"key of {path.name}", key, KEYS, f"Choose from {', '.join(KEYS)}.")
    tables = [content.get(name, {}) for name in ("set", "grid")]
    if not all(isinstance(table, dict) for table in tables) or not all(isinstance(v, list) for v in tables[1].values()):
        raise UsageError(
            f"set and grid of {path} must be tables, and each value of grid a list.", "See docs/sweeps.md."
        )
    flat = [_flat(table) for table in tables]
    grid = {name: [_text(one) for one in values] for name, values in flat[1].items()}
    lists = {key: _list(content.get(key, [])) for key in ("algorithms", "env")}
    of_seeds = ",".join(_list(content.get("seeds", "0")))
    out = Path(content["out"]) if isinstance(content.get("out"), str) else None
    settings = {name: _text(value) for name, value in flat[0].items()}
    preset = str(content.get("preset", "auto"))
    return Given(lists["algorithms"], lists["env"], of_seeds, preset, settings, grid, out)


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table in which [set.sac] with beta is sac.beta."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        found |= {f"{name}.{of}": one for of, one in value.items()} if isinstance(value, dict) else {name: value}
    return found


def _list(value: Any) -> list[str]:
    return [_text(one) for one in value] if isinstance(value, list) else [_text(value)]


def _text(value: Any) -> str:
    """A value as the command line has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def pairs(flag: str, words: Sequence[str]) -> dict[str, str]:
    """Words of the form name=value. Raises UsageError."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        name = name.replace("-", "_")
        if not equals or not name:
            raise UsageError(f"{flag} has {word!r:.100}, which is not name=value.", f"Write {flag} name=value.")
        if name in found:
            raise UsageError(f"{flag} gives {name} twice.", "Give it once.")
        found[name] = value
    return found


def values_of(flag: str, words: Sequence[str]) -> dict[str, list[str]]:
    """Words of the form name=value,value. Raises UsageError."""
    return {name: [text.strip() for text in value.split(",")] for name, value in pairs(flag, words).items()}


def product(given: Given) -> Product:
    """What is asked for, with every value checked, and environments looked up: their modules are imported.

    Raises:
        UsageError: an unknown name, a bad value, an empty grid.
    """
    if not given.algorithms or not given.envs:
        what = "No algorithm was given." if not given.algorithms else "No environment was given."
        raise UsageError(what, "Write estep sweep ALGO ... --env ID ... --seeds 0..4 --out SWEEP.")
    chosen = seeds(given.seeds)
    _check_once("algorithm", given.algorithms)
    _check_once("environment", given.envs)
    settings, grid = {}, {}
    for algorithm in given.algorithms:
        fields = {field.name: field for field in (*row(algorithm).fields, *schema.run_fields())}
        one = _own(given.settings, algorithm, given.algorithms, fields)
        settings[algorithm] = {name: _value(fields[name], text) for name, text in one.items()}
        several = _own(given.grid, algorithm, given.algorithms, fields)
        grid[algorithm] = {name: _values(fields[name], texts) for name, texts in several.items()}
        if twice := set(settings[algorithm]) & set(grid[algorithm]):
            raise UsageError(f"{min(twice)} has one value by --set and several by --grid.", "Give it once.")
        _check_run(settings[algorithm])
    envs = [tuple(text.split()) for text in given.envs]
    for env in envs:
        read_env(env)
    made = Product(given.algorithms, envs, chosen, grid, settings, given.preset)
    for run in Product(given.algorithms, envs, chosen[:1], grid, settings, given.preset).runs():
        plan.resolved(run)  # an unknown preset is an error
    return made


def _check_once(what: str, names: Sequence[str]) -> None:
    twice = next((name for name in names if list(names).count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"The {what} {twice} is given twice.", "Give it once.")


def _check_run(settings: Mapping[str, Any]) -> None:
    """Refuse settings of the run that do not go together. Raises UsageError."""
    from estep.settings.run import RunConfig

    known = {field.name for field in schema.run_fields()}
    RunConfig(**{name: value for name, value in settings.items() if name in known})


def _own(
    table: Mapping[str, Any], algorithm: str, others: Sequence[str], fields: Mapping[str, Field]
) -> dict[str, Any]:
    """The entries of a table that are about one algorithm, by today's names. Raises UsageError for an unknown name."""
    found = {}
    for given, value in table.items():
        of, dot, last = given.rpartition(".")
        if dot and of not in others:
            raise unknown("algorithm of this sweep", of, others, f"Choose from {', '.join(others)}.")
        name = renamed.current(last, fields)
        if not dot or of == algorithm:
            if name == "seed":
                raise UsageError("seed is given as a setting.", "Give --seeds.")
            if name not in fields:
                known = sorted(set(fields) - {"seed"})
                hint = f" Or give it for one algorithm only: ALGO.{last}=..." if len(others) > 1 else ""
                error = unknown(f"setting of {algorithm}", last, known, f"See estep train {algorithm} --help.")
                error = schema.unknown_setting(algorithm, last, name, known, error)
                raise UsageError(error.what, error.fix + hint)
            found[name] = value
    return found


def _values(field: Field, texts: Sequence[str]) -> list[Any]:
    """The values of a setting of the grid. Raises UsageError."""
    if not texts or "" in texts:
        raise UsageError(f"The grid of {field.name} is empty or has an empty value.", f"Write {field.name}=v1,v2.")
    values = [_value(field, text) for text in texts]
    if any(value in values[:i] for i, value in enumerate(values)):
        raise UsageError(f"The grid of {field.name} has a value twice.", "Give each value once.")
    return values


def _value(field: Field, text: str) -> Any:
    """A value of a setting, from text as the command line has it. Raises UsageError."""
    truth = {"true": field.flag, "yes": field.flag, "false": f"--no-{field.flag[2:]}", "no": f"--no-{field.flag[2:]}"}
    if field.kind is bool and text.lower() in truth:
        words = [truth[text.lower()]]
    elif str(field.kind).startswith("tuple"):
        words = [field.flag, *text.split()]
    else:
        words = [f"{field.flag}={text}"]
    parsed = parse("estep sweep", "", (field._replace(required=False),), (), words)
    return kinds.plain(field.name, field.hint, parsed.values[field.name])


def texts(named: Iterable[str], values: Mapping[str, Any]) -> dict[str, str]:
    """Values of flags as text, as `Given` has them."""
    return {
        name: _text(list(values[name]) if isinstance(values[name], tuple) else values[name]) for name in sorted(named)
    }
