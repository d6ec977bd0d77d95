"""A trained policy: everything that acting needs, with the normalisation of observations and the action bounds."""

from __future__ import annotations

import copy
import dataclasses
import functools as ft
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from estep.core.agent import Agent
from estep.core.types import Spec
from estep.data.normalise import Moments
from estep.e_steps.plans import acting_by
from estep.envs.base import ActionSpace, HostEnv
from estep.envs.build import FRESH
from estep.envs.observations import ObservationSpace
from estep.envs.pure.adapter import hosted
from estep.envs.tasks.sources import Envs, Given, known_by_name, read_envs
from estep.errors import EstepError, RejectedInput, UsageError, describe
from estep.export import archive
from estep.export.policy import Policy as Arithmetic
from estep.export.program import one_shot
from estep.likelihoods.state_value import StateValue
from estep.policy import saving
from estep.policy.actor import ACT, Actor, Scaling, key_of, scaling_of
from estep.policy.cache import check_process
from estep.policy.environments import env_or_none, make_env, no_env
from estep.policy.evaluate import Evaluation, evaluate
from estep.policy.job import QUIET
from estep.policy.shown import Shown
from estep.policy.spaces import Spaces, check_task, check_tasks, rows_of, spaces_of
from estep.runs import checkpoint, config_file, reading
from estep.runs.config_file import Recipe
from estep.runs.folder import RunFolder
from estep.runs.leaves import named_leaves, rebuild, skeleton
from estep.settings import arguments, references
from estep.settings.kinds import refused
from estep.settings.run import RunConfig


@dataclass(frozen=True, repr=False)
class Policy(Shown):
    """A trained policy. `estep.load` and `estep.train` make it. It can be pickled and copied."""

    recipe: Recipe
    """The run's configuration."""
    agent: Agent
    """The agent with all its arrays."""
    moments: Moments | None
    """Mean and variance of observations, if they are normalised."""
    action_space: ActionSpace
    env_steps: int
    updates: int
    run_dir: Path
    env: Envs | None = None
    """The environment for evaluation, or the tasks; None if it is not known."""
    observation_space: ObservationSpace | None = None
    """None if it is not known, as for a run of 0.1.0. Of several tasks that of the first."""
    origin: tuple[Policy, Callable[[Agent], Agent]] | None = None
    """The policy and the function of which `changed` made this one, or None."""
    tasks: Mapping[str, ObservationSpace] = dataclasses.field(default_factory=dict)
    """The observations of each task by its name; empty with one environment."""

    def __repr__(self) -> str:
        return f"Policy({self.recipe.name} on {self.recipe.env}, {self.env_steps:,} steps, {self.run_dir})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the policy as its configuration and its arrays, because functions of optimisers cannot be pickled.

        The environment stays if it is an id, or a class or function of a module. Others are left out: pass them to
        `evaluate`.
        """
        env = known_by_name(self.env)
        if self.origin is not None:
            change = self.origin[1]
            if not references.has_home(getattr(change, "func", change)):
                what = "This policy was changed by a function that cannot be pickled."
                raise UsageError(what, "Pickle the policy before `changed`, or change it by a function of a module.")
            return _unpickle_changed, (*self.origin, env)
        known = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return _unpickle, (self.agent.spec, self.arrays(), known | {"agent": None, "env": env})

    def __deepcopy__(self, memo: dict[int, Any]) -> Policy:
        """A copy with statistics of its own. The agent is shared: nothing writes to its arrays."""
        return dataclasses.replace(self, moments=copy.deepcopy(self.moments, memo))

    def __copy__(self) -> Policy:
        return dataclasses.replace(self)

    @ft.cached_property
    def spaces(self) -> Spaces:
        """The spaces of the environment of training."""
        return Spaces(self.agent.spec.obs_dim, self.action_space, self.observation_space, self.tasks)

    @property
    def scaling(self) -> Scaling:
        """Mean and scale of observations, or None."""
        return scaling_of(self.moments)

    def act(
        self,
        obs: npt.ArrayLike | Mapping[str, Any],
        *,
        task: str = "",
        deterministic: bool = True,
        seed: int = 0,
        counter: int = 0,
    ) -> npt.NDArray[Any] | np.generic:
        """The action for an observation, as the environment takes it in training: an array, or one integer.

        Args:
            obs: one observation of the environment's shape (a dict for a Dict space), or a batch of them with one
                leading axis (a dict of batches).
            task: the name of the task, where the policy was trained on several (they are in `policy.tasks`).
            deterministic: whether the action is squash(mode of q); otherwise it is sampled from q.
            seed, counter: of the random numbers; equal pairs give equal samples, so count up from step to step.

        Raises:
            UsageError: the observation does not have the size of training, is not finite, or is the tuple of a reset;
                or there is no such task.
        """
        if (type(seed), type(counter), type(deterministic)) != (int, int, bool) or seed < 0:
            seed, counter = arguments.seed(seed), arguments.whole("counter", counter)
            deterministic = arguments.truth("deterministic", deterministic)
        try:
            rows, single = rows_of(self.spaces, arguments.observation(obs), task)
        except (TypeError, ValueError) as error:
            what = f"The observation cannot be read as numbers: {error}."
            raise UsageError(what, "Pass an observation of the training environment, or a batch of them.") from error
        if deterministic and len(rows) == 1 and self._arithmetic is not None:
            native = self.action_space.native(self._arithmetic.action(rows[0])[None])
        else:
            how = self._actor.mode if deterministic else self._actor.actions
            action = how(rows, key_of(seed, ACT), np.uint32(counter % 2**32), self.scaling)
            native = self.action_space.native(np.array(action))
        one: npt.NDArray[Any] | np.generic = native[0]  # an integer of NumPy where the action has no axis
        return one if single else native

    def changed(self, change: Callable[[Agent], Agent]) -> Policy:
        """The policy of a changed agent, such as an agent that infers with another optimiser:

            policy.changed(lambda agent: with_inference(agent, GradientAscent(steps=100)))

        Raises:
            UsageError: the policy does no inference when it acts.
        """
        if not self.agent.infers:
            raise UsageError(
                "This policy acts from its learned prior, without inference.", "Evaluate it without --inference."
            )
        if isinstance(self.agent.likelihood.model, StateValue):
            what = "The critic of this policy values states, not actions, so inference has no objective."
            raise UsageError(what, "Evaluate it without --inference.")
        return self._made_by(change)

    def acting_by(self, how: str) -> Policy:
        """The policy as it acts by its plans, or by the network that proposes them: of algorithms that plan.

        Args:
            how: "plan" or "policy".

        Raises:
            UsageError: another value, or the policy acts without plans.
        """
        if how not in ("plan", "policy"):
            raise refused("eval_with", how, "plan or policy")
        return self._made_by(ft.partial(acting_by, how))

    def _made_by(self, change: Callable[[Agent], Agent]) -> Policy:
        return dataclasses.replace(self, agent=change(self.agent), origin=(self, change))

    def evaluate(
        self,
        episodes: int = 10,
        *,
        task: str = "",
        seed: int | None = None,
        env: Given | None = None,
        deterministic: bool = True,
    ) -> Evaluation:
        """Returns of whole episodes. Their seeds are fresh: neither training nor its evaluations, which chose the best
        checkpoint, had these episodes.

        Args:
            episodes: how many episodes, of each task.
            task: the name of the only task that is wanted; empty takes all.
            seed: seed of the episodes; None takes the seed of the run.
            env: the environment, or those of all tasks; None takes those of training.
            deterministic: whether the action is squash(mode of q); otherwise it is sampled from q.

        Raises:
            UsageError: a bad value, or the environment is not known and must be passed as env.
            EnvironmentFailure: the environment raised or gave too many bad transitions.
        """
        if task != "":
            check_task(task, list(self.tasks))
        source = self.env if env is None else hosted(read_envs(env))
        if source is None:
            raise no_env("policy")
        run = dataclasses.replace(self.recipe.run, eval_episodes=arguments.count("episodes", episodes))
        chosen = run if seed is None else dataclasses.replace(run, seed=arguments.seed(seed))
        mode = arguments.truth("deterministic", deterministic)
        return self.evaluate_with(make_env(source, chosen, QUIET, FRESH, task, list(self.tasks)), chosen, mode, task)

    def evaluate_with(self, env: HostEnv, run: RunConfig, deterministic: bool = True, task: str = "") -> Evaluation:
        """Returns of whole episodes, as `evaluate`, in environments that exist already; they are closed at the end.

        Args:
            env: the environments.
            run: number of episodes and seed.
            deterministic: whether the action is squash(mode of q); otherwise it is sampled from q.
            task: the name of the task that the environments are; empty if they are all.
        """
        with closing(env):
            check_process()
            check_tasks(self.spaces, env, task)
            return evaluate(self._actor, env, run.eval_episodes, run.seed, self.scaling, deterministic)

    def save(self, path: Path | str) -> Path:
        """Write the policy into a new folder, which `estep.load` and `estep eval` read. Returns its path.

        Raises:
            UsageError: the folder exists, or the policy was changed, so that no configuration describes it.
            StorageFailure: the disk is full, read-only or failing.
        """
        return saving.save(self, path)

    def arrays(self) -> dict[str, dict[str, npt.NDArray[Any]]]:
        """The agent's arrays by file and name."""
        leaves = jax.device_get(named_leaves(self.agent))
        return {file: {name: np.asarray(leaf) for name, leaf in named.items()} for file, named in leaves.items()}

    @ft.cached_property
    def _actor(self) -> Actor:
        return Actor(self.agent)

    @ft.cached_property
    def _arithmetic(self) -> Arithmetic | None:
        """The deterministic action of one observation by NumPy, in a tenth of the time; None if acting is inference."""
        return one_shot(self.agent, self.moments)


def load(
    path: Path | str, checkpoint_name: str | int = "best", *, allow_import: bool = False, trust_dir: bool = False
) -> Policy:
    """Load a policy from a run folder, from a folder of `Policy.save`, or from a file of `estep publish`.

    Args:
        path: the folder or the file.
        checkpoint_name: "best", "latest", a number of environment steps, or the folder's name, such as "step_1000".
        allow_import: whether modules that the folder names may be imported: now those of algorithms, parts or networks,
            and those of environments when they are made.
        trust_dir: whether the folder is read although other users may write to it.

    Raises:
        RejectedInput: the folder is not a run folder, or the checkpoint is corrupt or incompatible.
        UsageError: a bad value, or the folder names a module and allow_import is False.
    """
    which, allow_import = arguments.checkpoint(checkpoint_name), arguments.truth("allow_import", allow_import)
    given = arguments.path("path", path)
    check_process()
    with reading.trusting(arguments.truth("trust_dir", trust_dir)), archive.folder_of(given) as place:
        folder = RunFolder.open(place)
        recipe = config_file.one_seed(config_file.decode(folder.read_config(), allow_import=allow_import))
        loaded = checkpoint.load(source := checkpoint.locate(folder.path, which), None, None)
    try:
        spaces, counts = spaces_of(loaded.meta), loaded.meta["counts"]
        env_steps, updates = int(counts["env_steps"]), int(counts["updates"])
        moments = Moments(spaces.spec.obs_dim, spaces.spec.tasks) if "stats" in loaded.tensors else None
        if moments is not None:
            moments.load(loaded.tensors["stats"])
    except (KeyError, TypeError, ValueError, AttributeError, EstepError) as error:
        what = f"The checkpoint {source} does not have what a policy needs: {describe(error)}."
        raise RejectedInput(what, "Give another one with --checkpoint best, latest or STEP.") from error
    agent = rebuild(skeleton(recipe.algorithm, spaces.spec), loaded.tensors)
    known = (
        env_steps,
        updates,
        folder.path if place is given else given.absolute(),
        env_or_none(recipe, allow_import),
        spaces.observation,
    )
    return Policy(recipe, agent, moments, spaces.action, *known, tasks=dict(spaces.tasks))


def _unpickle(spec: Spec, arrays: dict[str, dict[str, npt.NDArray[Any]]], rest: dict[str, Any]) -> Policy:
    """The policy that `Policy.__reduce__` took apart."""
    return Policy(**{**rest, "agent": rebuild(skeleton(rest["recipe"].algorithm, spec), arrays)})


def _unpickle_changed(origin: Policy, change: Callable[[Agent], Agent], env: Envs | None) -> Policy:
    return dataclasses.replace(origin._made_by(change), env=env)
