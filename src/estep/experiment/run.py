"""Training and resuming a run: from a configuration to a folder of results."""

from __future__ import annotations

import functools as ft
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import jax

from estep.algorithms import Algorithm
from estep.data.memory import format_bytes
from estep.envs import gymnasium as envs
from estep.envs.base import HostEnv
from estep.envs.build import EVAL, TRAIN, Source, copyable, source_name
from estep.envs.watch import leave
from estep.errors import EstepError, UsageError
from estep.experiment import cache, checkpoint, provenance, record, snapshot
from estep.experiment.config import RunConfig
from estep.experiment.evaluate import SIDE_BY_SIDE
from estep.experiment.folder import RunFolder
from estep.experiment.record import Recipe
from estep.experiment.report import Reporter, Silent
from estep.experiment.session import Hands, Session
from estep.experiment.sinks import Sinks
from estep.experiment.trainer import Trainer
from estep.plots.curves import draw_run


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


class Job(NamedTuple):
    """What the caller of a run brings."""

    command: Sequence[str]
    report: Reporter
    stop: Callable[[], bool]
    on_hang: Callable[[str], None]


def never() -> bool:
    """No stop is asked for."""
    return False


QUIET = Job((), Silent(), never, leave)
"""A job that nobody watches."""


def train(algorithm: Algorithm, env: Source, config: RunConfig, *, out: Path, preset: str | None, job: Job) -> Result:
    """Train a row of the table and write its run folder.

    Nothing is created under `out` before the environment was made and reset, the agent built and replay found to fit.

    Raises:
        UsageError: an unknown environment, or replay that does not fit.
        EnvironmentFailure: an environment that is unfit, raises, hangs or gives bad transitions.
        NumericHalt: too many updates were not finite.
        StorageFailure: the disk is full, read-only or failing.
    """
    recipe = Recipe(record.name_of(algorithm), algorithm, source_name(env), isinstance(env, str), config, preset)
    check_source(env)
    explain(cache.use_cache(), job.report)
    with closing(make_env(env, config, job, TRAIN)) as training_env:
        trainer = Trainer(algorithm, training_env, config, job.report.note)
        trainer.begin()
        with RunFolder.create(out, recipe.name, recipe.env, config.seed, datetime.now()) as folder:
            folder.write_run(provenance.describe(job.command, {"run": config.seed}))
            folder.write_config(record.encode(recipe), record.differences(recipe))
            announce(folder, trainer, recipe, job.report)
            return conduct(recipe, folder, trainer, env, job, resumed_at=None)


def resume(
    run_dir: Path, *, steps: int | None = None, env: Source | None = None, allow_import: bool = False, job: Job
) -> Result:
    """Continue a run where its newest sound checkpoint stands.

    A finished run gives its result again; with larger `steps` it goes on. A run without a checkpoint starts again
    from its recorded configuration.

    Raises:
        RejectedInput: not a run folder, no sound checkpoint, a configuration of another version, or a locked run.
        UsageError: the environment must be named again.
    """
    folder = RunFolder.open(run_dir)
    recipe = record.decode(folder.read_config())
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
            folder.write_config(record.encode(recipe), record.differences(recipe))
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
    job: Job,
    *,
    resumed_at: int | None,
    meta: dict[str, Any] | None = None,
) -> Result:
    """Run a session to its end and write how it ended into run.json, whatever happens."""
    sinks = Sinks(folder, resumed_at)
    hands = Hands(job.report, job.stop, ft.partial(make_env, env, recipe.run, job, EVAL))
    session = Session(folder, trainer, sinks, hands)
    if meta is not None:
        session.restore(meta)
    folder.write_run({**folder.read_run(), "status": "running", "exit_code": None, "error": None, "ended": None})
    status, code, error, numbers = "error", 1, "", {}
    try:
        status = session.run(recipe.run.steps)
        code = 0 if status == "done" else 75
        for path in draw_run(folder.path, f"{recipe.name} on {recipe.env}").values():
            job.report.note(f"wrote    {path}")
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


def chosen_env(recipe: Recipe, env: Source | None, allow_import: bool) -> Source:
    """The environment of a recorded run: its id, unless that would import a module that nobody named.

    Raises:
        UsageError: the run needs its environment, or consent to import its module, from the caller.
    """
    if env is not None:
        if isinstance(env, str) and recipe.by_id and env != recipe.env:
            raise UsageError(
                f"This run is of {recipe.env}, not of {env}.", f"Give --env {recipe.env}, or leave it out."
            )
        return env
    if not recipe.by_id:
        raise UsageError(f"This run's environment, {recipe.env}, was made by a function.", "Pass that function as env.")
    if ":" in recipe.env and not allow_import:
        raise UsageError(
            f"This run's environment would import the module {recipe.env.rpartition(':')[0]}.",
            f"If you trust it, give --env {recipe.env} or --allow-import.",
        )
    return recipe.env


def make_env(env: Source, config: RunConfig, job: Job, stream: int) -> HostEnv:
    """The environments of training, or those of evaluation."""
    evaluating = stream == EVAL
    count = min(config.eval_episodes, SIDE_BY_SIDE) if evaluating else config.num_envs
    if evaluating and not (isinstance(env, str) or callable(env)):
        count = 1
    cap = config.max_episode_steps if evaluating else None
    return envs.make(
        env,
        num_envs=count,
        seed=config.seed,
        stream=stream,
        max_episode_steps=cap,
        timeout=config.env_timeout,
        on_hang=job.on_hang,
    )


def check_source(env: Source) -> None:
    """Refuse at once an environment of which evaluation could not make a second one.

    Raises:
        UsageError: an instance that gymnasium.make did not make.
    """
    if isinstance(env, gymnasium.Env):
        copyable(env, source_name(env))


def explain(reason: str | None, report: Reporter) -> None:
    """Pass on why something is missing."""
    if reason:
        report.note(reason)


def cut_note(env: HostEnv, run: RunConfig) -> str | None:
    """That evaluation episodes are cut, where the environment itself never ends them."""
    if not env.describe()["time limit"].startswith("none"):
        return None
    return f"note     no time limit: evaluation episodes are cut at {run.max_episode_steps:,} steps"


def announce(folder: RunFolder, trainer: Trainer, recipe: Recipe, report: Reporter) -> None:
    """The first lines of a run."""
    report.started(folder.path)
    preset = f"preset {recipe.preset}" if recipe.preset else "no preset"
    report.note(f"run      {folder.path}  ({preset}, {len(record.differences(recipe))} changes from defaults)")
    report.note("env      " + " · ".join(f"{name} {text}" for name, text in trainer.env.describe().items()))
    explain(cut_note(trainer.env, recipe.run), report)
    size = min(recipe.run.replay, recipe.run.steps)
    report.note(f"replay   {size:,} transitions = {format_bytes(trainer.replay_bytes)} on the host")
    devices = jax.devices()
    report.note(f"device   {devices[0].device_kind} ({devices[0].platform}), {os.cpu_count()} cores")
