"""Train and resume runs from Python.

Example:
    >>> import estep
    >>> policy = estep.train("sac", "Pendulum-v1", steps=20_000)  # doctest: +SKIP
    >>> policy = estep.resume(policy.run_dir, steps=40_000)  # doctest: +SKIP
    >>> estep.train("sac", "Pendulum-v1", stepz=20_000)
    Traceback (most recent call last):
    estep.errors.UsageError: There is no option 'stepz'.
    Did you mean steps?
"""

from __future__ import annotations

import dataclasses
import functools as ft
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict, Unpack, overload

from estep.algorithms.named import check_class, class_of, name_of
from estep.core.agent import Algorithm
from estep.envs.guard.watch import end_process
from estep.envs.pure.adapter import hosted
from estep.envs.pure.environment import PureEnv
from estep.envs.tasks.sources import Given, label, read_envs
from estep.errors import EnvironmentFailure, UsageError, unknown
from estep.plots.views import write_if_possible
from estep.policy import policy
from estep.policy.interrupts import Interrupts
from estep.policy.job import Reporter, RunContext, Silent, WithArguments
from estep.policy.policy import Policy
from estep.policy.progress import reporter
from estep.population import population as populations
from estep.population import run as run_of_many
from estep.population.population import Population
from estep.runs import reading
from estep.runs.folder import record_ending
from estep.settings import arguments, presets, renamed, schema
from estep.settings.run import RunConfig
from estep.training import run
from estep.training.callbacks import RunState


@overload
def train(
    algorithm: str | Algorithm | type,
    env: Given | PureEnv,
    *,
    population: int,
    preset: str | None = "auto",
    out: Path | str = "runs",
    name: str | None = None,
    report: Reporter | Literal["auto"] | None = "auto",
    **options: Any,
) -> Population: ...


@overload
def train(
    algorithm: str | Algorithm | type,
    env: Given | PureEnv,
    *,
    preset: str | None = "auto",
    out: Path | str = "runs",
    name: str | None = None,
    report: Reporter | Literal["auto"] | None = "auto",
    on_step: Callable[[RunState], object] | None = None,
    on_evaluation: Callable[[RunState], object] | None = None,
    **options: Any,
) -> Policy: ...


def train(
    algorithm: str | Algorithm | type,
    env: Given | PureEnv,
    *,
    preset: str | None = "auto",
    out: Path | str = "runs",
    name: str | None = None,
    report: Reporter | Literal["auto"] | None = "auto",
    on_step: Callable[[RunState], object] | None = None,
    on_evaluation: Callable[[RunState], object] | None = None,
    **options: Any,
) -> Policy | Population:
    """Train an algorithm and return its best policy, or the best policy of each seed of a population.

    Args:
        algorithm: a name ("sac", "iterative-sac", "my_module:Mine"), to which a preset applies; or an algorithm such as
            `estep.SAC()` or one of your own, which is taken as it is.
        env: a Gymnasium id or "module:Class", with arguments as in "HalfCheetah-v5?frame_skip=10"; a `gymnasium.Env`; a
            function that makes one; or a `PureEnv`. A list of them, or a dict of them by name, is several tasks.
        preset: "auto" for the preset of the environment, "none" or None, or the name of a preset.
        out: the folder for run folders; that of this run is `policy.run_dir`.
        name: the environment's name in the run folder; None for its id or its class. Give it where one class is several
            environments.
        report: "auto" shows progress on stderr, as a bar on a terminal and as a few lines elsewhere; None shows
            nothing; an object of your own gets the progress (`estep.policy.job.Reporter`).
        on_step: called with an `estep.RunState` after each step of the environments.
        on_evaluation: called with an `estep.RunState` after each evaluation. If either function returns True, the run
            is saved and stops, and `estep.resume` continues it. If one raises, the run is saved first.
        **options: settings of the algorithm and of `estep.RunConfig`, such as steps (of the environment), seed, and
            population: so many seeds are trained at once as one program.

    Returns:
        The policy of the best checkpoint, or of the newest if the run stopped before its first evaluation. It acts, and
        can be evaluated, saved and loaded. Of a population, an `estep.Population` of such policies.

    Raises:
        UsageError: an unknown name or a bad value.
        EnvironmentFailure: an environment that is unfit, raises or gives too many bad transitions.
        NumericHalt: too many updates were not finite.
        StorageFailure: the disk is full, read-only or failing.
        KeyboardInterrupt: Ctrl-C; the run was saved first, and `estep.resume` continues it.
    """
    read = read_envs(env)
    known = read.name if isinstance(read, PureEnv) else label(read)
    several = isinstance(read, tuple) and not isinstance(read, PureEnv)
    called, row, config, applied = _settings(algorithm, "" if several else known, preset, options)
    folder, name = arguments.path("out", out), None if name is None else arguments.text("name", name)
    with _context(["estep.train", called, known], report, on_step, on_evaluation) as context:
        how = How(folder, applied, name, context)
        return _train(row, read, config, how) if config.population is None else _train_many(row, read, config, how)


class How(NamedTuple):
    """Where a run is written, under which name, and who follows it."""

    out: Path
    preset: str | None
    name: str | None
    context: RunContext


def _train(row: Algorithm, env: Any, config: RunConfig, how: How) -> Policy:
    """Train one seed."""
    source = hosted(env)
    if isinstance(env, PureEnv) and how.name is None:
        how = how._replace(name=env.name)
    result = run.train(row, source, config, **how._asdict())
    write_if_possible(result.run_dir, how.context.report.note)
    return dataclasses.replace(policy.load(result.run_dir, allow_import=True), env=source)


def _train_many(row: Algorithm, env: Any, config: RunConfig, how: How) -> Population:
    """Train the seeds of a population."""
    _check_callbacks(how.context.on_step, how.context.on_evaluation)
    result = run_of_many.train(row, env, config, **how._asdict())
    write_if_possible(result.run_dir, how.context.report.note)
    return dataclasses.replace(populations.load_population(result.run_dir, allow_import=True), env=env)


def _check_callbacks(*functions: object) -> None:
    """Refuse functions that follow a run, which a population has no place for. Raises UsageError."""
    if any(function is not None for function in functions):
        what = "on_step and on_evaluation follow one run, but population trains several seeds in one program."
        raise UsageError(what, "Leave them out, or train the seeds one by one.")


class Consent(TypedDict, total=False):
    """What `resume` does only if it is allowed."""

    allow_import: bool
    """To import the modules that the run folder names."""
    allow_drift: bool
    """To go on with other versions, threads or another processor than before, so that numbers may drift."""
    trust_dir: bool
    """To read a run folder although other users may write to it."""


def _consent(given: Mapping[str, Any]) -> dict[str, bool]:
    """Everything that is allowed or not. Raises UsageError."""
    known = list(Consent.__annotations__)
    for name in given:
        if name not in known:
            raise unknown("option", name, known, f"Choose from {', '.join(known)}.")
    return {name: arguments.truth(name, given.get(name, False)) for name in known}


def resume(
    run_dir: Path | str,
    *,
    steps: int | None = None,
    env: Given | PureEnv | None = None,
    report: Reporter | Literal["auto"] | None = "auto",
    on_step: Callable[[RunState], object] | None = None,
    on_evaluation: Callable[[RunState], object] | None = None,
    **consent: Unpack[Consent],
) -> Any:
    """Continue a run from its newest sound checkpoint and return its best policy, or that of each seed of a population.

    Args:
        run_dir: the folder of the run.
        steps: a new total of environment steps; None for that of before.
        env: the environment, or those of all tasks; None to make them from the ids in the folder.
        report, on_step, on_evaluation: as in `train`.
        **consent: allow_import, allow_drift and trust_dir of `Consent`, False unless they are given.

    Returns:
        The policy of the best checkpoint, or the population, as `train` returns it.

    Raises:
        RejectedInput: not a run folder, no sound checkpoint, or a run that another process is writing.
        UsageError: a bad value, or the folder names a module, and that may not be imported.
    """
    path, given = arguments.path("run_dir", run_dir), _consent(consent)
    trusted = given.pop("trust_dir")
    total = None if steps is None else arguments.count("steps", steps)
    several = populations.is_population(path)
    if several:
        _check_callbacks(on_step, on_evaluation)
    home: Any = run_of_many if several else run
    load: Any = populations.load_population if several else policy.load
    read = None if env is None else read_envs(env)
    source = read if several else hosted(read)
    with reading.trusting(trusted):
        with _context(["estep.resume", str(path)], report, on_step, on_evaluation) as context:
            result = home.resume(path, steps=total, env=source, **given, context=context)
            write_if_possible(result.run_dir, context.report.note)
        found = load(result.run_dir, allow_import=given["allow_import"])
    return found if env is None else dataclasses.replace(found, env=source)


@contextmanager
def _context(command: list[str], report: Any, on_step: Any, on_evaluation: Any) -> Iterator[RunContext]:
    """The context of a run from Python, with progress on stderr where `report` is "auto". Raises UsageError."""
    functions = arguments.function("on_step", on_step), arguments.function("on_evaluation", on_evaluation)
    with Interrupts() as interrupts:
        with _reporting(report) as (shown, on_hang):
            yield RunContext(command, WithArguments(shown), interrupts.stop, on_hang, *functions)
    if interrupts.requested:  # the run was saved and is "stopped"
        raise KeyboardInterrupt


@contextmanager
def _reporting(report: Any) -> Iterator[tuple[Reporter, Callable[[str], None]]]:
    """The reporter of a run, and what is called when the environment hangs. Raises UsageError."""
    if report == "auto":
        known: dict[str, Any] = {}
        with reporter(known) as shown:
            yield shown, ft.partial(_end_hung, known)
        return
    missing = [name for name in ("started", "note", "progress") if report is not None and not hasattr(report, name)]
    if missing:
        what = f"report is {report!r:.100}, which has no function {missing[0]}."
        raise UsageError(what, 'Give "auto", None, or an object with the functions of estep.policy.job.Reporter.')
    yield report or Silent(), end_process


def _end_hung(known: Mapping[str, Any], message: str) -> None:
    """End the process because the environment hangs, and say so in run.json. Another thread calls this."""
    ending = {"status": "error", "exit_code": EnvironmentFailure.exit_code, "error": message.partition("\n")[0]}
    with suppress(Exception):
        record_ending(known["run_dir"], ending)
    end_process(message)


def _settings(algorithm: Any, env: str, preset: Any, options: dict[str, Any]) -> tuple[str, Any, RunConfig, str | None]:
    """An algorithm's name, the algorithm and the run with all settings, and the preset's name. Raises UsageError."""
    preset = presets.NONE if preset is None else arguments.text("preset", preset)
    called, start = _algorithm(algorithm)
    chosen = presets.find(called, env, preset) if isinstance(algorithm, str) else None
    changes = presets.changes(chosen, _today(options, start))
    row, changes = _take(start, changes)
    config, changes = _take(RunConfig(), changes)
    if changes:
        known = [field.name for part in (row, config) for field in dataclasses.fields(part)]
        wrong = min(changes)
        otherwise = unknown("option", wrong, known, f"Choose from {', '.join(known)}.")
        raise schema.unknown_setting(called, f"option {wrong!r}", wrong, known, otherwise)
    return called, row, config, chosen.name if chosen else None


def _algorithm(given: Any) -> tuple[str, Any]:
    """The name of an algorithm and the algorithm with its settings. A class stands for its defaults."""
    if isinstance(given, str):
        return given, class_of(given)()
    kind = given if isinstance(given, type) else type(given)
    check_class(kind.__qualname__, kind)
    algorithm = kind() if kind is given else given
    return name_of(algorithm), algorithm


def _today(options: dict[str, Any], algorithm: Any) -> dict[str, Any]:
    """Options by the names of this version, so that programs for earlier versions still run."""
    known = {field.name for part in (algorithm, RunConfig()) for field in dataclasses.fields(part)}
    return renamed.settings(options, known)


def _take(part: Any, changes: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The part with those changes that are its fields, and the other changes."""
    names = {field.name for field in dataclasses.fields(part)}
    mine = {name: value for name, value in changes.items() if name in names}
    return dataclasses.replace(part, **mine), {name: value for name, value in changes.items() if name not in names}
