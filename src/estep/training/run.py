"""Trains and resumes a run: from a configuration to a folder with results."""

from __future__ import annotations

import contextvars
import functools as ft
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import jax

from estep.algorithms.named import name_of
from estep.core.agent import Algorithm
from estep.data.memory import format_bytes
from estep.envs.base import HostEnv
from estep.envs.tasks.sources import Envs, Given
from estep.errors import UsageError
from estep.policy import cache
from estep.policy.environments import (
    chosen_env,
    compare_starts,
    flattening_note,
    idle_note,
    make_pair,
    task_records,
    time_limit_note,
)
from estep.policy.job import Reporter, RunContext, note_reason, shielded
from estep.policy.starts import of_seed
from estep.policy.starts.from_run import starting_agent, with_frozen_part
from estep.runs import checkpoint, config_file, manifest, provenance
from estep.runs.config_file import Recipe
from estep.runs.folder import RunFolder
from estep.settings.run import RunConfig
from estep.training import snapshot
from estep.training.allocation import capacity
from estep.training.callbacks import current_policy
from estep.training.ending import Result, beginning, exactness, recorded_result, to_the_end
from estep.training.mirrors.mirror import check_installed
from estep.training.session import Callbacks, Session
from estep.training.sinks import Sinks, check_lines
from estep.training.trainer import Trainer


def train(
    algorithm: Algorithm,
    env: Envs,
    config: RunConfig,
    *,
    out: Path,
    preset: str | None,
    name: str | None = None,
    run_dir: Path | None = None,
    context: RunContext,
) -> Result:
    """Train an algorithm and write its run folder.

    Nothing is created in `out` until the environment is made and reset, the agent is built, and replay fits in memory.

    Args:
        algorithm: the algorithm with its settings.
        env: a Gymnasium id, an instance, or a function that makes an environment; or the tasks.
        config: the settings of the run.
        out: folder of all runs.
        preset: name of the preset that was applied, for the record.
        name: name of the environment in the run folder; None takes its id or its class.
        run_dir: the folder of the run itself, in place of a new one in `out`.
        context: reports and stops.

    Raises:
        UsageError: the environment is unknown, or replay does not fit in memory.
        EnvironmentFailure: the environment cannot be used, raised, hung or gave too many bad transitions.
        NumericHalt: too many updates had a result that is not finite.
        StorageFailure: the disk is full, is read-only or reports errors.
    """
    check_installed(config.log)
    out, run_dir = out.absolute(), run_dir and run_dir.absolute()  # an environment may change the working directory
    context = shielded(context)
    note_reason(cache.use_cache(), context.report)
    algorithm, config = of_seed.with_runs(algorithm, config.seed), of_seed.with_runs(config, config.seed)
    with make_pair(env, config, context) as (training_env, evaluation_env):
        tasks = task_records(env)
        by_id = all(task.by_id for task in tasks) if tasks else isinstance(env, str)
        recipe = Recipe(name_of(algorithm), algorithm, name or training_env.name, by_id, config, preset, tasks)
        config_file.check_readable(recipe)
        trainer = Trainer(algorithm, training_env, config, context.report.note)
        begin(trainer, algorithm)
        note_reason(compare_starts(training_env, evaluation_env, trainer.obs), context.report)
        with RunFolder.create(out, recipe.name, recipe.env, config.seed, datetime.now(), run_dir) as folder:
            named = {"tasks": {task.name: task.env for task in tasks}} if tasks else {}
            folder.write_config(config_file.encode(recipe), config_file.differences(recipe))
            folder.write_run({**provenance.describe(context.command, {"run": config.seed}), **named})
            note_start(folder, trainer, recipe, context.report)
            return run_session(recipe, folder, trainer, (env, evaluation_env), context, resumed_at=None)


def resume(
    run_dir: Path,
    *,
    steps: int | None = None,
    env: Given | None = None,
    allow_import: bool = False,
    allow_drift: bool = False,
    context: RunContext,
) -> Result:
    """Continue a run from its newest good checkpoint.

    A finished run returns its result again, unless `steps` is larger. A run without a checkpoint starts again.

    Args:
        run_dir: the run folder.
        steps: new total of environment steps; None keeps the recorded total.
        env: the environment, or those of all tasks; None takes the recorded ones.
        allow_import: whether the modules that the run folder names may be imported.
        allow_drift: whether it may go on with other versions, threads or another processor than before.
        context: reports and stops.

    Raises:
        RejectedInput: not the folder of one run, no good checkpoint, a folder in use, or another version.
        UsageError: the environment must be given again, or the machine is another one.
    """
    context, folder = shielded(context), RunFolder.open(run_dir)
    recipe = config_file.one_seed(config_file.decode(folder.read_config(), allow_import=allow_import))
    source = chosen_env(recipe, env, allow_import)
    longer, recipe = steps is not None and steps > recipe.run.steps, recipe._replace(run=with_steps(recipe.run, steps))
    note_reason(cache.use_cache(), context.report)
    with folder:
        folder.lock()
        found = newest_sound(folder, context.report)
        check_lines(folder, bool(recipe.tasks))
        done = None if longer else recorded_result(folder)
        if done is not None:
            context.report.note("This run is finished. Give more --steps to continue it.")
            return done
        check_drift(folder, found, allow_drift, context.report)
        with make_pair(source, recipe.run, context) as (training_env, evaluation_env):
            trainer = trainer_for(recipe, training_env, found, context.report)
            folder.write_config(config_file.encode(recipe), config_file.differences(recipe))
            note_start(folder, trainer, recipe, context.report)
            envs = source, evaluation_env
            if found is None:
                context.report.note("The run has no checkpoint yet, so it starts again from its configuration.")
                begin(trainer, recipe.algorithm)
                return run_session(recipe, folder, trainer, envs, context, resumed_at=0)
            meta = restore(trainer, recipe, found, context.report)
            return run_session(recipe, folder, trainer, envs, context, resumed_at=trainer.counts.env_steps, meta=meta)


def newest_sound(folder: RunFolder, report: Reporter) -> Path | None:
    """The newest good checkpoint, if there is any. Those that are skipped are reported. Raises RejectedInput."""
    found, skipped = checkpoint.newest(folder.path)
    for path, reason in skipped:
        report.note(f"skipped  {path.name}: {reason}")
    return found


def check_drift(folder: RunFolder, found: Path | None, allowed: bool, report: Reporter) -> None:
    """Report and record that a run goes on where its numbers may become others, if that is allowed.

    Raises:
        UsageError: versions, threads or the processor are others than at the checkpoint, and that is not allowed.
    """
    held = None if found is None else manifest.read(found)
    changes = [] if held is None else provenance.drift(held.meta.get("machine"), provenance.machine())
    if held is None or not changes:
        return
    what = "; ".join(changes)
    if not allowed:
        raise UsageError(
            f"This machine is not the one of the checkpoint: {what}.",
            "The numbers may drift from those of an undisturbed run. Give --allow-drift to go on all the same.",
        )
    report.note(f"drift    {what}")
    drifts = [*(folder.read_run().get("drifts") or []), {"env_steps": held.step, "changes": changes}]
    folder.update_run(drifts=drifts)


def begin(trainer: Trainer, algorithm: Algorithm) -> None:
    """Begin a new run in fresh environments: from another run's agent or with a part of it, where that is asked."""
    if trainer.config.start_from:
        trainer.agent = starting_agent(trainer.config.start_from, trainer.agent, trainer.moments)
    trainer.agent = with_frozen_part(trainer.agent, algorithm, trainer.config.normalise)
    trainer.begin()


def trainer_for(recipe: Recipe, env: HostEnv, found: Path | None, report: Reporter) -> Trainer:
    """A new trainer, in environments that are compared with those of the checkpoint, if there is one.

    Raises:
        UsageError: they have other spaces.
    """
    if found is not None:
        snapshot.check_environment(found, env)
    return Trainer(recipe.algorithm, env, recipe.run, report.note)


def restore(trainer: Trainer, recipe: Recipe, path: Path, report: Reporter) -> dict[str, Any]:
    """Load a checkpoint into a new trainer, and report it. Returns the session's part of the checkpoint."""
    inexact, meta = snapshot.restore(trainer, recipe.algorithm, path)
    for i in inexact:
        report.note(f"The state of environment {i} could not be restored exactly, so its last episode is truncated.")
    checkpoint.complete(path.parent.parent, path, recipe.run.keep_checkpoints, meta["is_best"])
    report.note(f"resumed  at {trainer.counts.env_steps:,} steps from {path.name}")
    return meta


def run_session(
    recipe: Recipe,
    folder: RunFolder,
    trainer: Trainer,
    envs: tuple[Envs, HostEnv | None],
    context: RunContext,
    *,
    resumed_at: int | None,
    meta: dict[str, Any] | None = None,
) -> Result:
    """Run a session, and write into run.json how it ended, also after an exception.

    Args:
        recipe: the configuration.
        folder: the locked run folder.
        trainer: the trainer at its first step.
        envs: what makes the environments, and those for evaluation, or None to train without.
        context: reports and stops.
        resumed_at: environment steps of the checkpoint, or None for a new run.
        meta: the session's part of the checkpoint.
    """
    with beginning(folder):
        sinks = Sinks(folder, resumed_at, context.report.note, bool(recipe.tasks), recipe.run.log)
    now = ft.partial(current_policy, recipe, folder.path, trainer, envs[0])
    callbacks = Callbacks(context.report, context.stop, envs[1], now, context.on_step, context.on_evaluation)
    session = Session(folder, trainer, sinks, callbacks)
    if meta is not None:
        session.restore(meta)
    for each in (trainer.env, callbacks.evaluation_env):
        if each is not None:
            each.before_hang(ft.partial(contextvars.copy_context().run, session.rescue))  # in a thread
    train = ft.partial(session.run, recipe.run.steps)

    def numbers() -> dict[str, Any]:
        return {"result": summary(session), "exactness": exactness(trainer.improve, trainer.env)}

    return to_the_end(folder, train, numbers, sinks.close)


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


def with_steps(config: RunConfig, steps: int | None) -> RunConfig:
    """The configuration with another number of environment steps, if one is given."""
    return config if steps is None else RunConfig(**{**vars(config), "steps": steps})


def note_start(folder: RunFolder, trainer: Trainer, recipe: Recipe, report: Reporter) -> None:
    """Report the first lines of a run: its folder, environment, replay and device."""
    report.started(folder.path)
    preset = f"preset {recipe.preset}" if recipe.preset else "no preset"
    changes = len(config_file.differences(recipe))
    report.note(f"run      {folder.path}  ({preset}, {changes} settings differ from the defaults)")
    report.note("env      " + " · ".join(f"{name} {text}" for name, text in trainer.env.describe().items()))
    note_reason(time_limit_note(trainer.env, recipe.run), report)
    note_reason(flattening_note(trainer.env), report)
    note_reason(idle_note(recipe, trainer.agent.spec), report)
    if trainer.env.unrepeatable:
        report.note(f"note     {trainer.env.unrepeatable}")
    tasks = len(trainer.env.tasks)
    if tasks:
        each = trainer.sequences * trainer.agent.length // tasks
        report.note(f"tasks    {tasks}, of each {each} transitions in every batch")
    if recipe.run.start_from:
        report.note(f"start    from the agent of {recipe.run.start_from}, which also acts in the warm-up")
    size = min(capacity(trainer.agent, recipe.run), recipe.run.steps)
    report.note(f"replay   {size:,} transitions = {format_bytes(trainer.replay_bytes)} on the host")
    devices = jax.devices()
    report.note(f"device   {devices[0].device_kind} ({devices[0].platform}), {os.cpu_count()} cores")
