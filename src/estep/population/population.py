"""A trained population: one policy for each seed, loaded, evaluated and compared together."""

from __future__ import annotations

import dataclasses
import functools as ft
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import jax.numpy as jnp
import numpy as np

from estep.core.agent import Agent
from estep.envs.build import FRESH, Source
from estep.envs.guard.watch import end_process
from estep.envs.ids import register
from estep.envs.pure.adapter import find, on_host
from estep.envs.pure.environment import PureEnv
from estep.envs.tasks.sources import label, read_envs
from estep.errors import EnvironmentFailure, EstepError, RejectedInput, UsageError, check, describe
from estep.policy.environments import env_or_none, make_env, no_env
from estep.policy.evaluate import Evaluation
from estep.policy.job import QUIET
from estep.policy.policy import Policy
from estep.policy.spaces import Spaces, spaces_of
from estep.population import device, moments
from estep.population.host import evaluate_all
from estep.population.snapshot import BEST, POLICY_FILES
from estep.population.state import stacked, take
from estep.runs import checkpoint, config_file
from estep.runs.config_file import Recipe
from estep.runs.folder import MEMBERS, RunFolder
from estep.runs.leaves import rebuild, skeleton
from estep.settings import arguments
from estep.settings.run import RunConfig


@dataclass(frozen=True, repr=False)
class Population(Sequence[Policy]):
    """The policies of all seeds of a population, in the order of their seeds.

    `population[3]` is a `Policy`, and `population.evaluate()` has one result a seed.
    """

    recipe: Recipe
    """The configuration of the population."""
    agents: Agent
    """The agents, stacked."""
    stats: Mapping[str, np.ndarray[Any, Any]] | None
    """Mean and variance of observations of each seed, if they are normalised."""
    spaces: Spaces
    env_steps: Sequence[int]
    """Steps of each policy."""
    updates: Sequence[int]
    run_dir: Path
    env: Any = None
    """The environment for evaluation, or None if it is not known."""
    failed: Mapping[int, str] = dataclasses.field(default_factory=dict)
    """The seeds that failed in training by number, with the reason."""

    def __repr__(self) -> str:
        return f"Population({len(self)} seeds of {self.recipe.name} on {self.recipe.env}, {self.run_dir})"

    def __len__(self) -> int:
        return self.recipe.run.population or 1

    @overload
    def __getitem__(self, member: int) -> Policy: ...

    @overload
    def __getitem__(self, member: slice) -> list[Policy]: ...

    def __getitem__(self, member: int | slice) -> Policy | list[Policy]:
        if isinstance(member, slice):
            return [self[i] for i in range(*member.indices(len(self)))]
        i = range(len(self))[member]
        stats = None if self.stats is None else moments.moments({name: array[i] for name, array in self.stats.items()})
        agent: Agent = take(self.agents, i)
        env = ft.partial(on_host, self.env) if isinstance(self.env, PureEnv) else self.env
        recipe = member_recipe(self.recipe, i)
        counts = self.env_steps[i], self.updates[i]
        return Policy(recipe, agent, stats, self.spaces.action, *counts, self.run_dir, env, self.spaces.observation)

    def evaluate(
        self,
        episodes: int = 10,
        *,
        seed: int | None = None,
        env: Any = None,
        deterministic: bool = True,
        on_hang: Callable[[str], None] = end_process,
    ) -> list[Evaluation]:
        """Returns of whole episodes of every seed, all seeds at once. Their seeds are fresh, as in `Policy.evaluate`.

        Args:
            episodes: how many episodes of each seed.
            seed: seed of the episodes, the same for all policies; None takes the seed of each.
            env: the environment; None takes the environment of training.
            deterministic: whether the action is squash(mode of q); otherwise it is sampled from q.
            on_hang: called with a message, from another thread, if the environment hangs. It must end the process.

        Raises:
            UsageError: a bad value, or the environment is not known and must be passed as env.
            EnvironmentFailure: the environment raised or gave too many bad transitions.
        """
        source = self.env if env is None else only_one(read_envs(env))
        if source is None:
            raise no_env("population")
        episodes, greedy = arguments.count("episodes", episodes), arguments.truth("deterministic", deterministic)
        own = [self.recipe.run.seed + i for i in range(len(self))]
        seeds = own if seed is None else [arguments.seed(seed)] * len(self)
        if isinstance(source, str):
            register(source)
        pure = find(source)
        if pure is not None:
            running = None if self.stats is None else _running(self.stats)
            return device.play(pure, (device.FRESH, episodes, greedy), (self.agents, running), seeds, 0)
        runs = [dataclasses.replace(member_recipe(self.recipe, 0).run, seed=s, eval_episodes=episodes) for s in seeds]
        return self.evaluate_in(source, runs, greedy, on_hang)

    def evaluate_in(
        self, source: Source, runs: Sequence[RunConfig], deterministic: bool, on_hang: Callable[[str], None]
    ) -> list[Evaluation]:
        """Returns of whole episodes in environments on the host.

        Args:
            source: what makes the environments.
            runs: the settings of each seed's episodes.
            deterministic: whether the action is squash(mode of q).
            on_hang: called with a message if an environment hangs.
        """
        running = None if self.stats is None else _running(self.stats)
        with ExitStack() as stack:
            envs = [make_env(source, run, QUIET._replace(on_hang=on_hang), FRESH) for run in runs]
            for env in envs:
                stack.callback(env.close)
            how = runs[0].eval_episodes, 0, deterministic
            scores, failed = evaluate_all((self.agents, running), envs, [run.seed for run in runs], how)
        known = [one for one in scores if one is not None]
        if failed:
            i, why = next(iter(failed.items()))
            what = f"The evaluation of member {i} failed: {why}"
            raise EnvironmentFailure(what, "Check the environment: estep check-env ID.")
        return known


def only_one(env: Any) -> Any:
    """The environment of a population, as `read_envs` has it. Raises UsageError if there are several."""
    if isinstance(env, tuple) and not isinstance(env, PureEnv):
        what = f"A population has one environment, but {len(env)} are given: {label(env)}."
        raise UsageError(what, "Give one, or train each seed in a run of its own, without --population.")
    return env


def _running(stats: Mapping[str, np.ndarray[Any, Any]]) -> moments.Running:
    """The moments on the device, from those of a checkpoint."""
    count = stats["count"]
    variance = stats["squares"] / np.maximum(count, 1.0)
    parts = (jnp.asarray(array, jnp.float32) for array in (stats["origin"], stats["offset"], variance))
    return moments.Running(jnp.asarray(count[:, 0], jnp.int32), *parts)


def member_recipe(recipe: Recipe, member: int) -> Recipe:
    """The configuration of one seed as a run of its own."""
    run = dataclasses.replace(recipe.run, seed=recipe.run.seed + member, population=None)
    return recipe._replace(run=run)


def is_population(path: Path | str) -> bool:
    """Whether a run folder is that of a population. Raises RejectedInput if it is no run folder."""
    folder = RunFolder.open(path)
    if not (folder.path / MEMBERS).is_dir():
        return False
    settings = folder.read_config().get("run")
    return isinstance(settings, dict) and settings.get("population") is not None


def check_member(recipe: Recipe, member: int) -> int:
    """Refuse a number that no seed of the population has. Raises UsageError."""
    count = recipe.run.population
    if count is None:
        what = "This run has one seed, so it has no members."
        raise UsageError(what, "Leave --member out.")
    check("member", 0 <= member < count, member, f"from 0 to {count - 1}: the population has {count} seeds")
    return member


def load_population(path: Path | str, checkpoint_name: str | int = "best", *, allow_import: bool = False) -> Population:
    """Load the policies of a population.

    Args:
        path: its folder.
        checkpoint_name: "best" takes the best agent of each seed; "latest" or a number of steps that checkpoint.
        allow_import: whether modules that the folder names may be imported.

    Raises:
        RejectedInput: the folder is not that of a population, or the checkpoint is corrupt.
        UsageError: a bad value, or the folder names a module and allow_import is False.
    """
    which = arguments.checkpoint(checkpoint_name)
    folder = RunFolder.open(arguments.path("path", path))
    recipe = config_file.decode(folder.read_config(), allow_import=allow_import)
    if recipe.run.population is None:
        raise RejectedInput(f"{folder.path} is a run of one seed.", "Load it with estep.load.")
    source = checkpoint.locate(folder.path, "latest" if which == "best" else which)
    loaded = checkpoint.load(source, None, None)
    best = which == "best" and BEST + "params" in loaded.tensors
    names = {name: BEST * best + name for name in POLICY_FILES}
    files = {name: loaded.tensors[file] for name, file in names.items() if file in loaded.tensors}
    try:
        spaces, count = spaces_of(loaded.meta), recipe.run.population
        session, counts = loaded.meta["session"], loaded.meta["counts"]
        steps = session["best_steps"] if best else [counts["env_steps"]] * count
        updates = session["best_updates"] if best else [counts["updates"]] * count
        failed = {int(i): str(record["why"]) for i, record in loaded.meta["failed"].items()}
        steps, updates = (list(map(int, each)) for each in (steps, updates))
    except (KeyError, TypeError, ValueError, AttributeError, EstepError) as error:
        what = f"The checkpoint {source} does not have what a population needs: {describe(error)}."
        raise RejectedInput(what, "Give another one with --checkpoint latest or STEP.") from error
    one = skeleton(recipe.algorithm, spaces.spec)
    shaped = stacked(one, count)
    agents, env = rebuild(shaped, files), env_or_none(recipe, allow_import)
    return Population(recipe, agents, files.get("stats"), spaces, steps, updates, folder.path, env, failed)
