"""The short way in from Python: train and resume."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from estep.algorithms import ALGORITHMS, Algorithm
from estep.envs.build import Source, source_name
from estep.envs.watch import leave
from estep.errors import UsageError
from estep.plots.curves import draw_if_possible
from estep.policy import policy
from estep.policy.job import Reporter, RunContext, Silent, never_stop
from estep.policy.policy import Policy
from estep.runs.config_file import name_of
from estep.settings import presets
from estep.settings.run import RunConfig
from estep.training import run


def train(
    algorithm: str | Algorithm,
    env: Source,
    *,
    preset: str = "auto",
    out: Path | str = "runs",
    report: Reporter | None = None,
    **options: Any,
) -> Policy:
    """Train a row of the table and return its best policy.

    Args:
        algorithm: a name ("sac", "iterative-sac"), to which a preset applies, or a row such as `estep.SAC()`, which
            is taken as it is.
        env: a Gymnasium id, a `gymnasium.Env`, or a function without arguments that makes one.
        preset: "auto" for the environment's own, "none", or a preset's name.
        out: where run folders go; this run's is `policy.run_dir`.
        report: who is told how it goes; None for nobody.
        **options: fields of the algorithm and of `estep.RunConfig`, such as steps and seed.

    Raises:
        UsageError: an unknown name or a bad value.
        EnvironmentFailure: an environment that is unfit, raises or gives too many bad transitions.
        NumericHalt: too many updates were not finite.
        StorageFailure: the disk is full, read-only or failing.
    """
    name = algorithm if isinstance(algorithm, str) else name_of(algorithm)
    if name not in ALGORITHMS:
        raise UsageError(f"There is no algorithm {name}.", f"Choose one of {', '.join(ALGORITHMS)}.")
    chosen = presets.find(name, source_name(env), preset) if isinstance(algorithm, str) else None
    changes = {**(chosen.changes if chosen else {}), **options}
    start = ALGORITHMS[name]() if isinstance(algorithm, str) else algorithm
    row, changes = _take(start, changes)
    config, changes = _take(RunConfig(), changes)
    if changes:
        known = ", ".join(field.name for part in (row, config) for field in dataclasses.fields(part))
        raise UsageError(f"There is no option {min(changes)}.", f"Choose from {known}.")
    job = RunContext(["estep.train", name, source_name(env)], report or Silent(), never_stop, leave)
    result = run.train(row, env, config, out=Path(out), preset=chosen.name if chosen else None, job=job)
    draw_if_possible(result.run_dir, job.report.note)
    return dataclasses.replace(policy.load(result.run_dir), env=env)


def resume(run_dir: Path | str, *, steps: int | None = None, env: Source | None = None) -> Policy:
    """Continue a run where its newest sound checkpoint stands, and return its best policy.

    Args:
        run_dir: the run's folder.
        steps: a new total of environment steps.
        env: the environment, where the run folder's id alone does not make it.

    Raises:
        RejectedInput: not a run folder, no sound checkpoint, or a run that another process is writing.
    """
    job = RunContext(["estep.resume", str(run_dir)], Silent(), never_stop, leave)
    result = run.resume(Path(run_dir), steps=steps, env=env, job=job)
    draw_if_possible(result.run_dir, job.report.note)
    found = policy.load(result.run_dir)
    return found if env is None else dataclasses.replace(found, env=env)


def _take(part: Any, changes: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The part with those changes that are its fields, and the other changes."""
    names = {field.name for field in dataclasses.fields(part)}
    mine = {name: value for name, value in changes.items() if name in names}
    return dataclasses.replace(part, **mine), {name: value for name, value in changes.items() if name not in names}
