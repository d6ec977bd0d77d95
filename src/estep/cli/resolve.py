"""What the words of a command line mean: the configuration (defaults, then a preset, then flags), and the runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from estep.cli.results import Results, over_seeds
from estep.errors import EstepError, RejectedInput, StorageFailure, UsageError, unknown
from estep.settings import presets, references, schema
from estep.settings.schema import Row

if TYPE_CHECKING:
    from estep.plots.over_seeds import OverSeeds


class Resolved(NamedTuple):
    """The settings of the algorithm and of the run by name, and the preset's name if there is one."""

    algorithm: dict[str, Any]
    run: dict[str, Any]
    preset: str | None


def row(name: str) -> Row:
    """The algorithm of a name or of a `module:Class`. Raises UsageError with the nearest name if it is unknown."""
    algorithm = schema.find(name)
    if algorithm is None:
        references.check_no_file(name)
        known = [*schema.rows(), *references.installed()]
        listing = f"Give one of: {', '.join(known)}; or module:Class for your own algorithm."
        raise unknown("algorithm", name, known, listing)
    return algorithm


def resolve(row: Row, env: str, preset: str, flags: Mapping[str, Any]) -> Resolved:
    """The value of every setting.

    Args:
        row: the algorithm.
        env: the environment.
        preset: name of a preset, auto or none.
        flags: the settings that the user gave.

    Raises:
        UsageError: the preset is unknown.
    """
    chosen = presets.find(row.name, env, preset)
    changes = presets.changes(chosen, flags)
    algorithm = {field.name: changes.get(field.name, field.default) for field in row.fields}
    run = {field.name: changes.get(field.name, field.default) for field in schema.run_fields()}
    return Resolved(algorithm, run, chosen.name if chosen else None)


def read_env(given: Sequence[str]) -> Any:
    """The environment of --env, or the tasks. Their modules are imported, and their ids looked up.

    Raises:
        UsageError: none is given, two have one name, or one is malformed or unknown.
    """
    from estep.envs.ids import register
    from estep.envs.tasks.sources import read_envs, sources

    env = read_envs(tuple(given))
    for source in sources(env):
        register(str(source))
    return env


def run_folder(path: Path, results: Results, trusted: bool) -> Path:
    """The run folder of a path. From now on every result of the command contains it.

    Args:
        path: the folder, or a file `latest`.
        results: the results of the command.
        trusted: whether the user trusts everybody who may write to the folder.

    Raises:
        RejectedInput: it is no run folder, or it is unsafe.
    """
    from estep.runs import reading
    from estep.runs.folder import RunFolder

    reading.trust(trusted)
    folder = RunFolder.open(path).path
    results.known["run_dir"] = str(folder)
    return folder


def runs_of(named: Sequence[str], trusted: bool) -> list[Path]:
    """The runs that words of a command line stand for: each names a run, a published file, or a folder of runs. A run
    that is named twice is there once.

    Args:
        named: the words.
        trusted: whether the user trusts everybody who may write to the folders.

    Raises:
        UsageError: there are none.
        RejectedInput: one is no run, and no run is in it.
    """
    if not named:
        raise UsageError("No run is given.", "Give one or more run folders, or a folder with runs in it.")
    from estep.comparing.sources import members
    from estep.export.archive import is_file
    from estep.runs import reading

    reading.trust(trusted)
    runs = (run for path in map(Path, named) for run in ([path] if is_file(path) else members(path)))
    return list({run.resolve(): run for run in runs}.values())


def check_of_one(values: Mapping[str, Any], flags: Sequence[str], count: int) -> None:
    """Raise UsageError for a flag that is for one run alone, where several are given."""
    for flag in flags:
        if values[flag] is not None:
            name = f"--{flag.replace('_', '-')}"
            raise UsageError(f"{name} is for one run, and {count} are given.", f"Leave {name} out, or give one run.")


class Several(NamedTuple):
    """What a command made of several runs."""

    runs: dict[str, Any]
    """The record of each run, by its path."""
    failed: dict[str, str]
    """What is wrong with each of the others, by its path."""


def each_run(runs: Sequence[Path], results: Results, do: Callable[[Path], Any]) -> Several:
    """Do the same with several runs, one after the other. One that is refused does not end that of the others.

    Raises:
        EstepError: that of the first run, if all are refused; at once if the disk fails.
    """
    several, refused = Several({}, {}), []
    for i, run in enumerate(runs):
        results.say(f"run      {run}  ({i + 1} of {len(runs)})")
        try:
            several.runs[str(run)] = do(run)
        except StorageFailure:
            raise
        except EstepError as error:
            several.failed[str(run)] = error.what
            refused.append(error)
    if not several.runs:
        raise refused[0]
    results.known.pop("run_dir", None)
    return several


def finish_several(several: Several, means: Sequence[OverSeeds], results: Results) -> int:
    """Say the means over seeds, and write the JSON object of all runs. Returns the exit code.

    Raises:
        RejectedInput: some run was refused. The JSON object has all others.
    """
    if means:
        results.say("\n".join(over_seeds(means)))
    results.known |= {**several._asdict(), "over_seeds": [row._asdict() for row in means]}
    if several.failed:
        reasons = "; ".join(f"{Path(run).name}: {what.rstrip('.')}" for run, what in several.failed.items())
        what = f"{len(several.failed)} of {len(several.runs) + len(several.failed)} runs cannot be used: {reasons}."
        raise RejectedInput(what, "Leave them out. All others are done.")
    return results.finish(0, {})
