"""The plan of a sweep: every run with a stable id. `plan.json` is the only file of a sweep that is not derived."""

from __future__ import annotations

import functools as ft
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from estep.errors import EstepError, RejectedInput, UsageError
from estep.runs import reading, storage, strict
from estep.runs.folder import safe_name
from estep.settings import presets, references, schema

PLAN = "plan.json"
RUNS = "runs"
FORMAT = 1
MOST_RUNS = 1000
"""With more of them a sweep must be confirmed."""
LONGEST = 80
"""Characters of the readable part of an id."""


class Run(NamedTuple):
    """One run. Algorithm, environments, seed and the values of the grid are what tells it from others."""

    id: str
    algorithm: str
    env: tuple[str, ...]
    """One environment, or the tasks."""
    seed: int
    values: Mapping[str, Any]
    """The settings in which the runs of the grid differ."""
    preset: str
    settings: Mapping[str, Any]
    """The settings that were given for all runs."""


class Product(NamedTuple):
    """What a user asks for: every combination of algorithms, environments, seeds and values of the grid."""

    algorithms: Sequence[str]
    envs: Sequence[tuple[str, ...]]
    seeds: Sequence[int]
    grid: Mapping[str, Mapping[str, Sequence[Any]]]
    """For each algorithm the values of each setting."""
    settings: Mapping[str, Mapping[str, Any]]
    """For each algorithm what all of its runs have."""
    preset: str

    @property
    def total(self) -> int:
        """How many runs these are."""
        combined = [_product(len(values) for values in self.grid[name].values()) for name in self.algorithms]
        return sum(combined) * len(self.envs) * len(self.seeds)

    def runs(self) -> Iterator[Run]:
        """Every run. The seeds of one curve stand together."""
        for algorithm, env in itertools.product(self.algorithms, self.envs):
            names = list(self.grid[algorithm])
            for values in itertools.product(*self.grid[algorithm].values()):
                for seed in self.seeds:
                    chosen = dict(zip(names, values, strict=True))
                    yield make(algorithm, env, seed, chosen, self.preset, self.settings[algorithm])


def _product(counts: Iterable[int]) -> int:
    total = 1
    for count in counts:
        total *= count
    return total


def make(
    algorithm: str, env: Sequence[str], seed: int, values: Mapping[str, Any], preset: str, settings: Mapping[str, Any]
) -> Run:
    """A run with its id, in the types of JSON."""
    values, settings = (strict.plain(dict(sorted(table.items()))) for table in (values, settings))
    what = strict.dump([algorithm, list(env), seed, values])
    readable = "-".join(safe_name(word) for word in (algorithm, *env))[:LONGEST]
    name = f"{readable}-s{seed}-{hashlib.sha256(what).hexdigest()[:8]}"
    return Run(name, algorithm, tuple(env), seed, values, preset, settings)


def resolved(run: Run) -> dict[str, Any]:
    """Every setting of a run: the defaults, then those of its preset, then its own."""
    chosen = _preset(run.algorithm, run.env[0] if len(run.env) == 1 else "", run.preset)
    changes = strict.plain(presets.changes(chosen, {**run.settings, **run.values}))
    return {**_defaults(run.algorithm), **changes, "seed": run.seed}


_preset = ft.cache(presets.find)


@ft.cache
def _defaults(algorithm: str) -> Mapping[str, Any]:
    """The defaults of an algorithm and of a run."""
    row = schema.find(algorithm)
    known = {field.name: field.default for field in (*(row.fields if row else ()), *schema.run_fields())}
    return dict(strict.parse(strict.dump(known)))


def shape(run: Run) -> tuple[Any, ...]:
    """Equal for runs that compile the same programs, as far as their settings tell."""
    return run.algorithm, run.env, run.preset, strict.dump(run.settings), strict.dump(run.values)


def imports(runs: Iterable[Run]) -> list[str]:
    """Modules that the runs import besides the library: those of `module:Id` and `module:name`."""
    found: dict[str, None] = {}
    for run in runs:
        words = [run.algorithm, *run.values.values(), *run.settings.values()]
        named = [word.partition(":")[0] for word in words if isinstance(word, str) and references.is_reference(word)]
        found |= dict.fromkeys([*named, *filter(None, (references.env_text(text).module for text in run.env))])
    return list(found)


def extend(old: Sequence[Run], new: Iterable[Run], begun: Callable[[Run], bool]) -> tuple[Run, ...]:
    """The old plan with new runs. A run that is planned already and has not begun takes its new settings; one that has
    begun takes more steps.

    Raises:
        UsageError: a run that has begun would be changed.
    """
    known = {run.id: run for run in old}
    for run in new:
        before = known.get(run.id)
        changes = [] if before is None or before == run else differences(before, run)
        if before is not None and changes and begun(before) and not is_longer(before, run):
            raise UsageError(
                f"The run {run.id} has begun with other settings: {', '.join(changes)}.",
                "Give the settings that it began with and as many steps or more, or another folder with --out.",
            )
        if changes or before is None:
            known[run.id] = run
    return tuple(known.values())


def is_longer(one: Run, other: Run) -> bool:
    """Whether the other run is the same one with more steps."""
    old = resolved(one)
    # With as few steps as before: a short run has a shorter warm-up.
    same = other._replace(settings={**other.settings, "steps": old["steps"]})
    return resolved(same) == old and int(resolved(other)["steps"]) > int(old["steps"])


def differences(one: Run, other: Run) -> list[str]:
    """The settings in which two runs differ, in words."""
    old, new = resolved(one), resolved(other)
    return [
        f"--{name.replace('_', '-')} is {old.get(name)} there and {new.get(name)} here"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def write(sweep: Path, runs: Sequence[Run]) -> None:
    """Write plan.json. Raises StorageFailure."""
    rows = [{**run._asdict(), "env": list(run.env)} for run in runs]
    data = strict.dump({"format": FORMAT, "runs": rows}, indent=1) + b"\n"
    storage.write_atomic(sweep / PLAN, data)


def read(sweep: Path) -> tuple[Run, ...]:
    """The plan in a folder.

    Raises:
        RejectedInput: there is none, or it is malformed.
    """
    path = sweep / PLAN
    try:
        content = strict.parse(reading.read_path(path, strict.MAX_JSON))
        if not isinstance(content, dict) or set(content) != {"format", "runs"} or content["format"] != FORMAT:
            raise ValueError("it is not a plan of this version of estep")
        runs = tuple(_run(row) for row in content["runs"])
        if len({run.id for run in runs}) != len(runs):
            raise ValueError("two of its runs have one id")
    except FileNotFoundError as error:
        fix = "Make one: estep sweep ALGO --env ID --seeds 0..4 --out SWEEP."
        raise RejectedInput(f"{sweep} is not a sweep: it has no {PLAN}.", fix) from error
    except (OSError, ValueError, TypeError, KeyError, RecursionError, EstepError) as error:
        what = f"{path} cannot be read: {error}."
        raise RejectedInput(what, "Restore it from a copy, or plan the sweep again in another folder.") from error
    return runs


def _run(row: Any) -> Run:
    """One run of plan.json. Its id must be that of its content."""
    if not isinstance(row, dict) or set(row) != set(Run._fields):
        raise ValueError("a run of it is malformed")
    texts = [row["id"], row["algorithm"], row["preset"], *row["env"]]
    tables = row["values"], row["settings"]
    sound = isinstance(row["env"], list) and row["env"] and all(isinstance(text, str) and text for text in texts)
    if not sound or not strict.is_count(row["seed"]) or not all(isinstance(table, dict) for table in tables):
        raise ValueError("a run of it is malformed")
    names = [name for table in tables for name in table]
    if not all(name.isidentifier() and name not in NOT_SETTINGS for name in names):
        raise ValueError(f"{min(names)} is not the name of a setting")
    if any(text.startswith("-") for text in (row["algorithm"], row["preset"], *row["env"])):
        raise ValueError("a name of it begins with a dash")
    run = make(*(row[name] for name in Run._fields[1:]))
    if run.id != row["id"]:
        raise ValueError(f"the run {row['id']:.100} has the content of another one, {run.id}")
    return run


NOT_SETTINGS = {"env", "preset", "out", "run_dir", "seeds", "seed", "json", "verbose"}
"""Flags of `estep train` that a plan has a place of its own for, or that the sweep sets."""
