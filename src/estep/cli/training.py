"""`estep train` and `estep resume`."""

from __future__ import annotations

import functools as ft
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estep.cli.main import Context
from estep.cli.parse import Help, parse
from estep.cli.resolve import read_env, resolve, row, run_folder
from estep.cli.results import aligned, spread
from estep.errors import STOPPED, UsageError, check
from estep.policy.progress import reporter
from estep.runs.folder import MEMBERS
from estep.settings import schema

if TYPE_CHECKING:
    from estep.policy.job import Reporter, RunContext
    from estep.training.ending import Result


PATIENCE = 10.0
"""Seconds that the end of a run waits for a reader of stdout who does not read."""


@dataclass(frozen=True)
class Train:
    """The options of `estep train` that are not settings of an algorithm or of a run."""

    env: tuple[str, ...]
    """One environment, or several as tasks: [NAME=][module:]Id[?name=value&...], with arguments of the environment as
    JSON values. estep imports the modules that you name."""
    preset: str = "auto"
    """Name of a preset (estep presets lists them), auto for the preset of the environment, or none. Flags override
    the preset."""
    out: str = "runs"
    """Folder of all runs. If $ESTEP_RUNS_DIR is set, it is the default."""
    run_dir: Path | None = None
    """Folder of this run itself, new or empty. Without it, a folder with a name of its own is made in --out."""
    seeds: str = ""
    """Train one run for each of these seeds, such as 0..4 or 0,3,7, as a sweep."""


@dataclass(frozen=True)
class Resume:
    """Continue a run from its newest good checkpoint. If the run is finished, its result is printed again."""

    run: Path
    """Folder of the run, or a file `latest` that has the folder's name."""
    steps: int | None = None
    """New total number of environment steps. None takes the run's setting."""
    population: int | None = None
    """Number of seeds that the run must have; it cannot be changed. None takes the run's setting."""
    env: tuple[str, ...] = ()
    """The run's environment, or all of its tasks. For module:Id it allows estep to import the module."""
    allow_import: bool = False
    """Allow estep to import the modules that the run folder names."""
    allow_drift: bool = False
    """Go on with other versions, threads or another processor than before, so that numbers may drift."""
    trust_dir: bool = False
    """Read a run folder that other users may write to, whom you trust."""


def train(arguments: list[str], context: Context) -> int:
    """Train an algorithm on an environment."""
    if not arguments or arguments[0].startswith("-"):
        if {"-h", "--help"} & set(arguments):
            raise Help(_overview())
        raise UsageError(
            "No algorithm was given.", f"Give one first: estep train {' | '.join(schema.rows())} --env ID."
        )
    if any(word.partition("=")[0] == "--seeds" for word in arguments):
        from estep.cli.sweeping import sweep

        return sweep.of_seeds(arguments, context)
    found = row(arguments[0])
    everything = (*schema.of(Train), *schema.run_fields(), *found.fields)
    about = f"{found.summary} `estep algos {found.name}` shows its row of the table."
    values, named = parse(f"estep train {found.name}", about, everything, (), arguments[1:])
    flags = {name: values[name] for name in named}
    given = values["env"]
    resolved = resolve(found, given[0] if len(given) == 1 else "", values["preset"], flags)

    from estep.settings.run import RunConfig

    config = RunConfig(**resolved.run)
    env = read_env(given)  # before JAX is imported, so that an error in the id is reported at once
    if context.life.stop_requested:
        return context.results.finish(STOPPED, {})

    from estep.algorithms.named import class_of

    run = _runner(config.population is not None)
    algorithm = class_of(found.name)(**resolved.algorithm)
    out = Path(values["out"] if "out" in named else os.environ.get("ESTEP_RUNS_DIR") or values["out"])
    with _reporter(context) as report:
        preset = resolved.preset
        run_context = _run_context(context, report)
        where: dict[str, Any] = {"out": out, "run_dir": values["run_dir"], "preset": preset}
        result = run.train(algorithm, env, config, **where, context=run_context)
        _write_views(result, report)
    return _report_result(result, context)


def compose(arguments: list[str], context: Context) -> int:
    """Train the algorithm compose, whose parts are flags."""
    return train(["compose", *arguments], context)


def _overview() -> str:
    lines = aligned([(name, found.summary.partition("\n")[0]) for name, found in schema.rows().items()])
    return "\n".join(
        [
            "usage: estep train ALGO --env ID [ID ...] [--steps N] [--seed S] [--out DIR] [every setting of ALGO]",
            "",
            *lines,
            "",
            "estep train ALGO --help lists every flag with its default.",
        ]
    )


def resume(arguments: list[str], context: Context) -> int:
    """Continue a run."""
    values, _ = parse("estep resume", str(Resume.__doc__), schema.of(Resume), ("run",), arguments)
    if values["steps"] is not None:
        check("steps", values["steps"] >= 1, values["steps"], "at least 1")
    folder = run_folder(values["run"], context.results, values["trust_dir"])
    env = read_env(values["env"]) if values["env"] else None

    from estep.population.population import is_population

    chosen = {"env": env, **{name: values[name] for name in ("steps", "allow_import", "allow_drift")}}
    several = is_population(folder)
    if several:
        chosen["population"] = values["population"]
    elif values["population"] is not None:
        raise UsageError("This run has one seed, not a population.", "Leave --population out.")
    with _reporter(context) as report:
        result = _runner(several).resume(folder, **chosen, context=_run_context(context, report))
        _write_views(result, report)
    return _report_result(result, context)


@dataclass(frozen=True)
class Split:
    """Write every seed of a population as a run folder of its own, which evaluates, is inspected and resumes alone."""

    run: Path
    """Folder of the population, or a file `latest` that has the folder's name."""
    out: Path | None = None
    """Folder of all new runs. None takes the folder split in that of the population."""
    allow_import: bool = False
    """Allow estep to import the modules that the run folder names."""
    trust_dir: bool = False
    """Read a run folder that other users may write to, whom you trust."""


def split(arguments: list[str], context: Context) -> int:
    """Write the seeds of a population as run folders."""
    values, _ = parse("estep split", str(Split.__doc__), schema.of(Split), ("run",), arguments)
    folder = run_folder(values["run"], context.results, values["trust_dir"])

    from estep.policy.progress import Plain
    from estep.population import split as splitting

    report = Plain(context.results.known)
    out = None if values["out"] is None else values["out"].absolute()
    written = splitting.split(folder, out, allow_import=values["allow_import"], report=report)
    context.results.say(f"wrote    {len(written)} run folders\n" + "\n".join(f"         {path}" for path in written))
    return context.results.finish(0, {"runs": [str(path) for path in written]})


def _runner(several: bool) -> Any:
    """The module that trains and resumes: a population, or one run."""
    if several:
        from estep.population import run as several_runs

        return several_runs
    from estep.training import run

    return run


def _reporter(context: Context) -> AbstractContextManager[Reporter]:
    return reporter(context.results.known, ft.partial(setattr, context.results, "drawing"))


def _run_context(context: Context, report: Reporter) -> RunContext:
    from estep.policy.job import RunContext

    context.results.patience = PATIENCE
    return RunContext(context.command, report, lambda: context.life.stop_requested, context.results.hang)


def _write_views(result: Result, report: Reporter) -> None:
    from estep.plots.views import write_if_possible

    write_if_possible(result.run_dir, report.note)


def _report_result(result: Result, context: Context) -> int:
    code = STOPPED if result.status == "stopped" else 0
    context.results.say_recorded("\n".join(_summary(result)))
    record: dict[str, Any] = {**result._asdict(), "run_dir": str(result.run_dir)}
    return context.results.finish(code, record)


def _summary(result: Result) -> list[str]:
    speed = "" if result.env_steps_per_s is None else f" ({result.env_steps_per_s:,.0f} step/s)"
    lines = [
        f"{result.status:8s} {result.run_dir}",
        f"steps    {result.env_steps:,} with {result.updates:,} updates in {result.wall_s:,.1f} s{speed}",
    ]
    if result.eval_mean is not None and result.eval_std is not None:
        seeds = len(os.listdir(result.run_dir / MEMBERS)) if (result.run_dir / MEMBERS).is_dir() else 0
        over = f"{seeds} seeds, {result.eval_episodes} episodes each" if seeds else f"{result.eval_episodes} episodes"
        lines.append(f"return   {spread(result.eval_mean, result.eval_std)} over {over}")
    return [*lines, f"resume   estep resume {result.run_dir}"] if result.status == "stopped" else lines
