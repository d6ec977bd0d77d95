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
from pathlib import Path
from typing import Any

from estep.algorithms.named import check_class, class_of, name_of
from estep.core.agent import Algorithm
from estep.envs.build import Source, source_name
from estep.envs.watch import end_process
from estep.errors import unknown
from estep.plots.curves import draw_if_possible
from estep.policy import policy
from estep.policy.job import Reporter, RunContext, Silent, never_stop
from estep.policy.policy import Policy
from estep.settings import presets, renamed
from estep.settings.run import RunConfig
from estep.training import run


def train(
    algorithm: str | Algorithm,
    env: Source,
    *,
    preset: str = "auto",
    out: Path | str = "runs",
    name: str | None = None,
    report: Reporter | None = None,
    **options: Any,
) -> Policy:
    """Train an algorithm and return its best policy.

    Args:
        algorithm: a name ("sac", "iterative-sac", "my_module:Mine"), to which a preset applies; or an algorithm such as
            `estep.SAC()` or one of your own, which is taken as it is.
        env: a Gymnasium id, a `gymnasium.Env`, or a function without arguments that makes one.
        preset: "auto" for the preset of the environment, "none", or the name of a preset.
        out: the folder for run folders; that of this run is `policy.run_dir`.
        name: the environment's name in the run folder; None for its id or its class. Give it where one class is several
            environments.
        report: gets the progress of the run; None for no reports.
        **options: settings of the algorithm and of `estep.RunConfig`, such as steps (of the environment) and seed.

    Returns:
        The policy of the best checkpoint. It acts, and can be evaluated, saved and loaded.

    Raises:
        UsageError: an unknown name or a bad value.
        EnvironmentFailure: an environment that is unfit, raises or gives too many bad transitions.
        NumericHalt: too many updates were not finite.
        StorageFailure: the disk is full, read-only or failing.
    """
    if isinstance(algorithm, str):
        called, start = algorithm, class_of(algorithm)()
        chosen = presets.find(called, source_name(env), preset)
    else:
        called, start, chosen = name_of(algorithm), algorithm, None
        check_class(called, type(algorithm))
    changes = {**(chosen.changes if chosen else {}), **_today(options, start)}
    row, changes = _take(start, changes)
    config, changes = _take(RunConfig(), changes)
    if changes:
        known = [field.name for part in (row, config) for field in dataclasses.fields(part)]
        raise unknown("option", min(changes), known, f"Choose from {', '.join(known)}.")
    context = RunContext(["estep.train", called, source_name(env)], report or Silent(), never_stop, end_process)
    applied = chosen.name if chosen else None
    result = run.train(row, env, config, out=Path(out), preset=applied, name=name, context=context)
    draw_if_possible(result.run_dir, context.report.note)
    return dataclasses.replace(policy.load(result.run_dir, allow_import=True), env=env)


def resume(
    run_dir: Path | str, *, steps: int | None = None, env: Source | None = None, allow_import: bool = False
) -> Policy:
    """Continue a run from its newest sound checkpoint and return its best policy.

    Args:
        run_dir: the folder of the run.
        steps: a new total of environment steps; None for that of before.
        env: the environment; None to make it from the id in the folder.
        allow_import: whether modules that the folder names may be imported.

    Returns:
        The policy of the best checkpoint.

    Raises:
        RejectedInput: not a run folder, no sound checkpoint, or a run that another process is writing.
        UsageError: the folder names a module, and that may not be imported.
    """
    context = RunContext(["estep.resume", str(run_dir)], Silent(), never_stop, end_process)
    result = run.resume(Path(run_dir), steps=steps, env=env, allow_import=allow_import, context=context)
    draw_if_possible(result.run_dir, context.report.note)
    found = policy.load(result.run_dir, allow_import=allow_import)
    return found if env is None else dataclasses.replace(found, env=env)


def _today(options: dict[str, Any], algorithm: Any) -> dict[str, Any]:
    """Options by the names of this version, so that programs for earlier versions still run."""
    known = {field.name for part in (algorithm, RunConfig()) for field in dataclasses.fields(part)}
    return renamed.settings(options, known)


def _take(part: Any, changes: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The part with those changes that are its fields, and the other changes."""
    names = {field.name for field in dataclasses.fields(part)}
    mine = {name: value for name, value in changes.items() if name in names}
    return dataclasses.replace(part, **mine), {name: value for name, value in changes.items() if name not in names}
