"""Trains and resumes a population: from a configuration to a folder with results of every seed."""

from __future__ import annotations

import functools as ft
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np

from estep.algorithms.contract import check_own
from estep.algorithms.named import name_of
from estep.core.agent import Algorithm
from estep.envs.actions import action_space
from estep.envs.build import Source, source_name
from estep.envs.ids import register
from estep.envs.observations import observation_space
from estep.envs.pure.adapter import find, on_host
from estep.envs.pure.environment import PureEnv, check_pure
from estep.errors import UsageError
from estep.policy import cache
from estep.policy.environments import chosen_env, idle_note, make_pair
from estep.policy.job import Reporter, RunContext, note_reason, shielded
from estep.policy.spaces import Spaces, spaces_in
from estep.population import sizes, snapshot
from estep.population.device import OnDevice
from estep.population.host import OnHost
from estep.population.population import only_one
from estep.population.session import PopulationSession, check_members
from estep.population.state import Plan, plan_of
from estep.population.stepping import SideBySide, threads_for
from estep.population.trainer import Engine, PopulationTrainer
from estep.runs import checkpoint, config_file, provenance
from estep.runs.config_file import Recipe
from estep.runs.folder import RunFolder
from estep.runs.leaves import skeleton
from estep.settings.run import RunConfig
from estep.training.ending import Result, beginning, recorded_result, to_the_end
from estep.training.run import check_drift, newest_sound, with_steps
from estep.training.scale import check_image, note_agent
from estep.training.snapshot import lacking
from estep.training.update import note_schedule


class Place(NamedTuple):
    """The environments of a population before its agents exist."""

    name: str
    spaces: Spaces
    dtype: Any
    """Type in which replay stores observations."""
    make: Callable[[Plan, list[int]], Callable[[Any], Engine]]
    """Makes the environments, with the agents that learn in them."""
    text: str
    """Where they are, for the first lines of a run."""


def train(
    algorithm: Algorithm,
    env: Any,
    config: RunConfig,
    *,
    out: Path,
    preset: str | None,
    name: str | None = None,
    run_dir: Path | None = None,
    context: RunContext,
) -> Result:
    """Train `config.population` seeds and write their folder.

    Nothing is created in `out` until the environment is known to be fit, and memory and disk suffice.

    Args:
        algorithm: the algorithm with its settings.
        env: a Gymnasium id, a function that makes an environment, or a `PureEnv`.
        config: the settings of the run.
        out: folder of all runs.
        preset: name of the preset that was applied, for the record.
        name: name of the environment in the run folder; None takes its id or its class.
        run_dir: the folder of the run itself, in place of a new one in `out`.
        context: reports and stops.

    Raises:
        UsageError: the environment is unknown or a single instance, or the population does not fit in memory.
        EnvironmentFailure: the environment cannot be used, or failed for all seeds.
        NumericHalt: too many updates of all seeds had a result that is not finite.
        StorageFailure: the disk is full, is read-only or reports errors.
    """
    out, run_dir, context = out.absolute(), run_dir and run_dir.absolute(), shielded(context)
    note_reason(cache.use_cache(), context.report)
    with opened(env, config, context) as place:
        recipe = Recipe(name_of(algorithm), algorithm, name or place.name, isinstance(env, str), config, preset)
        config_file.check_readable(recipe)
        plan = planned(recipe, place, out, context.report)
        trainer = trainer_of(recipe, plan, place)
        trainer.engine.begin()
        seeds = f"{trainer.seeds[0]}-{trainer.seeds[-1]}"
        with RunFolder.create(out, recipe.name, recipe.env, seeds, datetime.now(), run_dir) as folder:
            folder.write_config(config_file.encode(recipe), config_file.differences(recipe))
            folder.write_run(provenance.describe(context.command, {"run": config.seed}))
            note_start(folder, recipe, place, context)
            with beginning(folder):
                session = PopulationSession(folder, trainer, place.spaces, context, None)
            return run_session(session, config.steps)


def resume(
    run_dir: Path,
    *,
    steps: int | None = None,
    population: int | None = None,
    env: Any = None,
    allow_import: bool = False,
    allow_drift: bool = False,
    context: RunContext,
) -> Result:
    """Continue a population from its newest good checkpoint.

    Args:
        run_dir: the run folder.
        steps: new total of environment steps of each seed; None keeps the recorded total.
        population: how many seeds the caller expects; None takes the recorded number.
        env: the environment; None takes the recorded one.
        allow_import: whether the modules that the run folder names may be imported.
        allow_drift: whether it may go on with other versions, threads or another processor than before.
        context: reports and stops.

    Raises:
        RejectedInput: the folder has no good checkpoint, is locked, or is of another version.
        UsageError: it has another number of seeds, or the environment must be given again.
    """
    context, folder = shielded(context), RunFolder.open(run_dir)
    recipe = config_file.decode(folder.read_config(), allow_import=allow_import)
    check_population(recipe, population)
    source = env if isinstance(env, PureEnv) else chosen_env(recipe, env, allow_import)
    longer, recipe = steps is not None and steps > recipe.run.steps, recipe._replace(run=with_steps(recipe.run, steps))
    note_reason(cache.use_cache(), context.report)
    with folder:
        folder.lock()
        found = newest_sound(folder, context.report)
        check_members(folder, recipe.run.population or 0)
        done = None if longer else recorded_result(folder)
        if done is not None:
            context.report.note("This population is finished. Give more --steps to continue it.")
            return done
        check_drift(folder, found, allow_drift, context.report)
        with opened(source, recipe.run, context) as place:
            plan = planned(recipe, place, folder.path, context.report)
            if found is not None:
                snapshot.check_spaces_of(found, place.spaces)
                saved = snapshot.saved_form(found, plan.form)
                plan = plan._replace(form=saved) if saved.rows > plan.form.rows else plan
            trainer = trainer_of(recipe, plan, place)
            folder.write_config(config_file.encode(recipe), config_file.differences(recipe))
            note_start(folder, recipe, place, context)
            return run_session(continued(folder, trainer, place, found, context), recipe.run.steps)


def continued(
    folder: RunFolder, trainer: PopulationTrainer, place: Place, found: Path | None, context: RunContext
) -> PopulationSession:
    """The session of a population that goes on from a checkpoint, or starts again where there is none."""
    if found is None:
        context.report.note("The population has no checkpoint yet, so it starts again from its configuration.")
        trainer.engine.begin()
        with beginning(folder):
            return PopulationSession(folder, trainer, place.spaces, context, 0)
    loaded, store = snapshot.restore(trainer, found)
    with beginning(folder):
        session = PopulationSession(folder, trainer, place.spaces, context, trainer.env_steps)
    try:
        session.restore(loaded, store)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise lacking(found, error) from error
    checkpoint.complete(folder.path, found, trainer.config.keep_checkpoints, best=False)
    context.report.note(f"resumed  at {trainer.env_steps:,} steps from {found.name}")
    return session


def check_population(recipe: Recipe, population: int | None) -> None:
    """Refuse another number of seeds than the recorded one. Raises UsageError."""
    if population is not None and population != recipe.run.population:
        held = "one seed" if recipe.run.population is None else f"a population of {recipe.run.population}"
        what = f"This run has {held}, not a population of {population}."
        raise UsageError(what, "Leave --population out, or train a new population.")


@contextmanager
def opened(source: Any, config: RunConfig, context: RunContext) -> Iterator[Place]:
    """The environments of a population, on the device or on the host. Those on the host are closed at the end.

    Raises:
        UsageError: the environment is unknown, or a single instance; or there are several.
        EnvironmentFailure: it cannot be used.
    """
    source = only_one(source)
    if isinstance(source, gymnasium.Env):
        what = f"{source_name(source)} is one environment, but each of the {config.population} seeds needs its own."
        raise UsageError(what, "Pass the environment's id or a function that makes it.")
    if isinstance(source, str):
        register(source)
    pure = find(source)
    if pure is not None:
        check_pure(pure)
        yield _on_device(pure, source if isinstance(source, str) else pure.name)
        return
    with ExitStack() as stack:
        yield _on_host(source, config, context, stack)


def _on_device(env: PureEnv, name: str) -> Place:
    gym = on_host(env)
    spaces = Spaces(
        env.spec.obs_dim, action_space(gym.action_space, name), observation_space(gym.observation_space, name)
    )

    def make(plan: Plan, seeds: list[int]) -> Callable[[Any], Engine]:
        return lambda learners: OnDevice(plan, env, seeds, learners)

    return Place(name, spaces, np.float32, make, f"on the device, at most {env.limit} steps an episode")


def _on_host(source: Source, config: RunConfig, context: RunContext, stack: ExitStack) -> Place:
    """The first seed's environments are made at once, and those of the others when memory is known to suffice."""
    first = stack.enter_context(make_pair(source, config, context))

    def make(plan: Plan, seeds: list[int]) -> Callable[[Any], Engine]:
        configs = [RunConfig(**{**vars(config), "seed": seed, "population": None}) for seed in seeds[1:]]
        pairs = [first, *(stack.enter_context(make_pair(source, one, context)) for one in configs)]
        judges = [judge for _, judge in pairs if judge is not None]
        training = [env for env, _ in pairs]
        batch = SideBySide(training, threads_for(training))
        return lambda learners: OnHost(plan, (batch, judges), seeds, learners)

    env = first[0]
    spaces = spaces_in(env)
    return Place(env.name, spaces, spaces.storage, make, "on the host")


def planned(recipe: Recipe, place: Place, out: Path, report: Reporter) -> Plan:
    """What the compiled programs must know, after a check of memory and disk. Raises UsageError, StorageFailure."""
    spec, config = place.spaces.spec, recipe.run
    agent = skeleton(recipe.algorithm, spec)
    check_own(recipe.algorithm, agent, max(1, config.batch_size // agent.length))
    plan = plan_of(agent, spec, config, place.dtype)
    report.note(sizes.checked(config, agent, plan.form, out))
    note_agent(agent, config.normalise, report.note)
    note_schedule(config, agent.rollout, plan.block, report.note)
    return plan


def trainer_of(recipe: Recipe, plan: Plan, place: Place) -> PopulationTrainer:
    """A new trainer with its environments. Raises UsageError if observations need a network that is not given."""
    config = recipe.run
    seeds = [config.seed + i for i in range(config.population or 1)]
    trainer = PopulationTrainer(recipe.algorithm, plan, config, place.make(plan, seeds))
    if isinstance(trainer.engine, OnHost):
        check_image(recipe.algorithm, trainer.engine.batch.envs[0])
    return trainer


def note_start(folder: RunFolder, recipe: Recipe, place: Place, context: RunContext) -> None:
    """Report the first lines of a run."""
    report, run = context.report, recipe.run
    report.started(folder.path)
    last = run.seed + (run.population or 1) - 1
    report.note(f"run      {folder.path}  ({run.population} seeds, {run.seed} to {last})")
    report.note(f"env      {place.name}, {run.num_envs} for each seed, {place.text}")
    note_reason(idle_note(recipe, place.spaces.spec), report)
    device = jax.devices()[0]
    alone = "; there is no accelerator" if device.platform == "cpu" else ""
    report.note(f"device   {device.device_kind} ({device.platform}), {os.cpu_count()} cores{alone}")


def run_session(session: PopulationSession, steps: int) -> Result:
    """Run a session, and write into run.json how it ended and which seeds failed, also after an exception."""

    def numbers() -> dict[str, Any]:
        return {"result": summary(session), "failed": session.failed}

    return to_the_end(session.folder, ft.partial(session.run, steps), numbers, session.close)


def summary(session: PopulationSession) -> dict[str, Any]:
    """The numbers of a result. The return is the mean over the seeds that did not fail, with their spread."""
    trainer, wall = session.trainer, session.wall_s
    steps = trainer.env_steps * len(trainer.seeds)
    return {
        "env_steps": trainer.env_steps,
        "updates": trainer.updates,
        **{name: session.last.get(name) for name in ("eval_mean", "eval_std", "eval_episodes")},
        "wall_s": wall,
        "env_steps_per_s": steps / wall if wall > 0 else None,
    }
