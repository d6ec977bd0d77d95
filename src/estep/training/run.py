"""Training and resuming a run: from a configuration to a folder of results."""

from __future__ import annotations

import functools as ft
import os
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax

from estep.algorithms.named import name_of
from estep.core.agent import Algorithm
from estep.data.memory import format_bytes
from estep.envs.build import EVAL, TRAIN, Source, source_name
from estep.errors import EstepError
from estep.policy import cache
from estep.policy.environments import check_source, chosen_env, cut_note, make_env
from estep.policy.job import Reporter, RunContext, explain
from estep.runs import checkpoint, config_file, provenance
from estep.runs.config_file import Recipe
from estep.runs.folder import RunFolder
from estep.settings.run import RunConfig
from estep.training import snapshot
from estep.training.session import Callbacks, Session
from estep.training.sinks import Sinks
from estep.training.trainer import Trainer


class Result(NamedTuple):
    """How a run ended."""

    status: str
    """"done" or "stopped"."""
    run_dir: Path
    env_steps: int
    updates: int
    eval_mean: float | None
    eval_std: float | None
    eval_episodes: int | None
    wall_s: float
    env_steps_per_s: float | None


def train(
    algorithm: Algorithm, env: Source, config: RunConfig, *, out: Path, preset: str | None, job: RunContext
) -> Result:
    """Train a row of the table and write its run folder.

    Nothing is created under `out` before the environment was made and reset, the agent built and replay found to fit.

    Raises:
        UsageError: an unknown environment, or replay that does not fit.
        EnvironmentFailure: an environment that is unfit, raises, hangs or gives bad transitions.
        NumericHalt: too many updates were not finite.
        StorageFailure: the disk is full, read-only or failing.
    """
    recipe = Recipe(name_of(algorithm), algorithm, source_name(env), isinstance(env, str), config, preset)
    check_source(env)
    explain(cache.use_cache(), job.report)
    with closing(make_env(env, config, job, TRAIN)) as training_env:
        trainer = Trainer(algorithm, training_env, config, job.report.note)
        trainer.begin()
        with RunFolder.create(out, recipe.name, recipe.env, config.seed, datetime.now()) as folder:
            folder.write_run(provenance.describe(job.command, {"run": config.seed}))
            folder.write_config(config_file.encode(recipe), config_file.differences(recipe))
            announce(folder, trainer, recipe, job.report)
            return conduct(recipe, folder, trainer, env, job, resumed_at=None)


def resume(
    run_dir: Path, *, steps: int | None = None, env: Source | None = None, allow_import: bool = False, job: RunContext
) -> Result:
    """Continue a run where its newest sound checkpoint stands.

    A finished run gives its result again; with larger `steps` it goes on. A run without a checkpoint starts again
    from its recorded configuration.

    Raises:
        RejectedInput: not a run folder, no sound checkpoint, a configuration of another version, or a locked run.
        UsageError: the environment must be named again.
    """
    folder = RunFolder.open(run_dir)
    recipe = config_file.decode(folder.read_config(), allow_import=allow_import)
    source = chosen_env(recipe, env, allow_import)
    check_source(source)
    longer = steps is not None and steps > recipe.run.steps
    if steps is not None:
        recipe = recipe._replace(run=with_steps(recipe.run, steps))
    explain(cache.use_cache(), job.report)
    with folder:
        folder.lock()
        found, skipped = checkpoint.newest(folder.path)
        for path, reason in skipped:
            job.report.note(f"skipped  {path.name}: {reason}")
        done = None if longer else finished(folder)
        if done is not None:
            job.report.note("this run is finished; give a larger --steps to go on")
            return done
        with closing(make_env(source, recipe.run, job, TRAIN)) as training_env:
            trainer = Trainer(recipe.algorithm, training_env, recipe.run, job.report.note)
            folder.write_config(config_file.encode(recipe), config_file.differences(recipe))
            announce(folder, trainer, recipe, job.report)
            if found is None:
                job.report.note("no checkpoint yet: starting again from the recorded configuration")
                trainer.begin()
                return conduct(recipe, folder, trainer, source, job, resumed_at=0)
            inexact, meta = snapshot.restore(trainer, recipe.algorithm, found)
            for i in inexact:
                job.report.note(f"environment {i} did not replay to the same state: its open episode was cut")
            job.report.note(f"resumed  at {trainer.counts.env_steps:,} steps from {found.name}")
            return conduct(recipe, folder, trainer, source, job, resumed_at=trainer.counts.env_steps, meta=meta)


def conduct(
    recipe: Recipe,
    folder: RunFolder,
    trainer: Trainer,
    env: Source,
    job: RunContext,
    *,
    resumed_at: int | None,
    meta: dict[str, Any] | None = None,
) -> Result:
    """Run a session to its end and write how it ended into run.json, whatever happens."""
    sinks = Sinks(folder, resumed_at)
    hands = Callbacks(job.report, job.stop, ft.partial(make_env, env, recipe.run, job, EVAL))
    session = Session(folder, trainer, sinks, hands)
    if meta is not None:
        session.restore(meta)
    folder.write_run({**folder.read_run(), "status": "running", "exit_code": None, "error": None, "ended": None})
    status, code, error, numbers = "error", 1, "", {}
    try:
        status = session.run(recipe.run.steps)
        code = 0 if status == "done" else 75
        numbers = summary(session)
        return Result(status, folder.path, **numbers)
    except EstepError as failure:
        code, error = failure.exit_code, failure.what
        raise
    finally:
        sinks.close()
        ending = {"status": status, "exit_code": code, "error": error or None, "ended": provenance.now()}
        folder.write_run({**folder.read_run(), **ending, "result": numbers or summary(session)})


def summary(session: Session) -> dict[str, Any]:
    """The numbers of a result."""
    counts, last = session.trainer.counts, session.last
    wall = session.wall_s
    return {
        "env_steps": counts.env_steps,
        "updates": counts.updates,
        **{name: last.get(name) for name in ("eval_mean", "eval_std", "eval_episodes")},
        "wall_s": wall,
        "env_steps_per_s": counts.env_steps / wall if wall > 0 else None,
    }


def finished(folder: RunFolder) -> Result | None:
    """The result of a run that has one."""
    found = folder.read_run()
    numbers = found.get("result")
    names = Result._fields[2:]
    if found.get("status") != "done" or not isinstance(numbers, dict) or not set(names) <= set(numbers):
        return None
    sound = all(value is None or type(value) in (int, float) for value in (numbers[name] for name in names))
    if not sound or type(numbers["env_steps"]) is not int:
        return None
    return Result("done", folder.path, **{name: numbers[name] for name in names})


def with_steps(config: RunConfig, steps: int) -> RunConfig:
    """The configuration with another length."""
    return RunConfig(**{**vars(config), "steps": steps})


def announce(folder: RunFolder, trainer: Trainer, recipe: Recipe, report: Reporter) -> None:
    """The first lines of a run."""
    report.started(folder.path)
    preset = f"preset {recipe.preset}" if recipe.preset else "no preset"
    report.note(f"run      {folder.path}  ({preset}, {len(config_file.differences(recipe))} changes from defaults)")
    report.note("env      " + " · ".join(f"{name} {text}" for name, text in trainer.env.describe().items()))
    explain(cut_note(trainer.env, recipe.run), report)
    size = min(recipe.run.replay_size, recipe.run.steps)
    report.note(f"replay   {size:,} transitions = {format_bytes(trainer.replay_bytes)} on the host")
    devices = jax.devices()
    report.note(f"device   {devices[0].device_kind} ({devices[0].platform}), {os.cpu_count()} cores")
