"""Runs all instruments on a run folder. The result of each is its measurement, or why it does not apply."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from estep.core.types import Key
from estep.envs.base import HostEnv
from estep.envs.build import FRESH
from estep.envs.tasks.sources import Given
from estep.errors import UsageError
from estep.instruments import calibration, gap, improvement, landscape, modes, optimisers, staleness, states, transfer
from estep.instruments.calibration import Calibration
from estep.instruments.gap import Gap
from estep.instruments.improvement import Growth, Improved
from estep.instruments.landscape import Landscape
from estep.instruments.modes import Modes
from estep.instruments.optimisers import Compared, Outcome
from estep.instruments.play.predictions import Predictions, model_of, predictions
from estep.instruments.play.realised import Extent, Realisation, realised
from estep.instruments.staleness import Staleness
from estep.instruments.transfer import Transfer
from estep.likelihoods.imagined import estimate_name
from estep.policy import policy
from estep.policy.actor import INSPECT, key_of, scale
from estep.policy.environments import chosen_env, make_env
from estep.policy.job import QUIET, RunContext
from estep.policy.policy import Policy
from estep.policy.spaces import check_task, check_tasks

STATES = {"improvement": 256, "gap": 64, "compare": 32, "modes": 16, "transfer": 64, "staleness": 64}
STATES |= {"realised": 256, "model": 256}
"""Default number of states of each instrument. With two action dimensions the gap uses 16."""
LANDSCAPES = 2
"""Number of states with a landscape."""


class Options(NamedTuple):
    """The options of an inspection."""

    checkpoint: str = "latest"
    """best, latest, or a number of environment steps."""
    only: tuple[str, ...] = ()
    """Names of instruments; an empty tuple means all."""
    states: int | None = None
    """Number of states; None takes the default of each instrument."""
    given: npt.NDArray[np.float32] | None = None
    """States [n, o] as the environment gives them; None takes the latest states of the run."""
    iterations: int | None = None
    """Number of iterations of the improvement; None takes twice the trained number."""
    episodes: int = 10
    """Number of episodes of the calibration, of the realised gain and of the model."""
    realised_steps: int = 25
    """Number of steps with inferred actions of the realised gain."""
    seed: int | None = None
    """Seed of all random numbers and of the episodes; None takes the run's seed."""
    env: Given | None = None
    """The run's environment or its tasks, if their ids alone do not make them."""
    task: str = ""
    """The name of the only task that is measured; empty takes all, as in training."""
    allow_import: bool = False
    """Whether the modules that the run folder names may be imported."""
    imagined: bool = True
    """Whether Q̂ has the imagined steps of training. Without it, Q̂ is the critic."""


class Gaps(NamedTuple):
    """The inference gap in each state."""

    exact: bool
    """Whether it was computed by quadrature."""
    rows: list[Gap]


class Comparison(NamedTuple):
    """The comparison of optimisers, and the outcome of each."""

    rows: list[Compared]
    outcomes: list[Outcome]
    states: int
    """Number of states."""


class Inspection(NamedTuple):
    """The results of the instruments. The result is None if an instrument was not selected or does not apply."""

    env_steps: int
    trained_iterations: int
    improvement: Improved | None
    gap: Gaps | None
    compare: Comparison | None
    landscape: list[Landscape] | None
    modes: Modes | None
    transfer: list[Transfer] | None
    staleness: list[Staleness] | None
    calibration: Calibration | None
    realised: Realisation | None
    model: Predictions | None
    not_measured: dict[str, str]
    """The reasons why instruments do not apply, by their names."""
    estimate: str = "the critic"
    """The Q̂ on which inference was measured, in words."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A policy that is inspected, and the options."""

    policy: Policy
    options: Options
    context: RunContext = QUIET

    @property
    def seed(self) -> int:
        """Seed of all random numbers and of the episodes."""
        return self.policy.recipe.run.seed if self.options.seed is None else self.options.seed

    @property
    def key(self) -> Key:
        """Key of all random numbers."""
        return key_of(self.seed, INSPECT)

    def obs(self, count: int) -> Float[Array, "b o"]:
        """The states to measure in, `count` by default, as the networks get them."""
        wanted = self.options.states or count
        if self.options.given is not None:
            return self.scaled(states.evenly_spaced(self.options.given, self.options.states or len(self.options.given)))
        return self.scaled(states.recent_states(self.policy, self.options.checkpoint, wanted, self.options.task))

    def scaled(self, obs: npt.NDArray[np.float32]) -> Float[Array, "b o"]:
        """States of the environment as the networks get them."""
        return scale(jnp.asarray(obs), self.policy.scaling)


def inspect_run(run_dir: Path, options: Options | None = None, context: RunContext = QUIET) -> Inspection:
    """Measure inference in a recorded run with every instrument that applies to it.

    Args:
        run_dir: the run folder.
        options: which instruments, and their options; None takes the defaults.
        context: reports and stops.

    Raises:
        RejectedInput: not a run folder, no such good checkpoint, or it has no replay and no states are given.
        EnvironmentFailure: the environment raised, hung or gave too many bad transitions.
    """
    chosen = options or Options()
    here = states.loaded(run_dir, chosen.checkpoint, chosen.allow_import, chosen.imagined)
    subject = Subject(here, chosen, context)
    if chosen.task:
        check_task(chosen.task, list(here.tasks))
    results: dict[str, Any] = dict.fromkeys(INSTRUMENTS)
    refused: dict[str, str] = {}
    for name in [name for name in INSTRUMENTS if not chosen.only or name in chosen.only]:
        context.report.note(f"measuring {name}")
        try:
            results[name] = INSTRUMENTS[name](subject, results)
        except UsageError as error:
            refused[name] = error.what
    trained = improvement.trained_iterations(here.agent.inference.model)
    return Inspection(here.env_steps, trained, **results, not_measured=refused, estimate=estimate_name(here.agent))


def measure_improvement(subject: Subject, results: dict[str, Any]) -> Improved:
    """Improvement per iteration, at the inspected checkpoint and at every checkpoint of the run."""
    agent = subject.policy.agent
    steps = subject.options.iterations or improvement.BEYOND * max(improvement.most_iterations(agent), 1)
    curve = improvement.improvement(agent, subject.obs(STATES["improvement"]), subject.key, steps)
    return Improved(curve, over_checkpoints(subject, steps), improvement.logged(subject.policy.run_dir))


def over_checkpoints(subject: Subject, iterations: int) -> list[Growth]:
    """The improvement at each checkpoint of the run, in the latest states of its replay or in the given states."""
    rows: list[Growth] = []
    for step in improvement.checkpoints(subject.policy.run_dir):
        then = states.loaded(subject.policy.run_dir, str(step), True, subject.options.imagined)
        there = dataclasses.replace(subject, policy=then, options=subject.options._replace(checkpoint=str(step)))
        obs = there.obs(STATES["improvement"])
        rows += [Growth(step, *row) for row in improvement.improvement(then.agent, obs, subject.key, iterations)]
    return rows


def measure_gap(subject: Subject, results: dict[str, Any]) -> Gaps:
    """The inference gap and its parts."""
    agent = subject.policy.agent
    gap.check_parametric(agent)
    exact = gap.has_quadrature(agent)
    count = 16 if exact and agent.spec.action_dim == 2 else STATES["gap"]
    return Gaps(exact, gap.gap(agent, subject.obs(count), subject.key))


def measure_comparison(subject: Subject, results: dict[str, Any]) -> Comparison:
    """The comparison of inference optimisers."""
    agent, obs = subject.policy.agent, subject.obs(STATES["compare"])
    gap.check_parametric(agent)
    outcomes = optimisers.run_candidates(agent, obs, subject.key, optimisers.candidates(agent))
    return Comparison(optimisers.compare(outcomes), outcomes, len(obs))


def measure_landscape(subject: Subject, results: dict[str, Any]) -> list[Landscape]:
    """V around the paths of the optimisers, in two states of the comparison."""
    outcomes = (results["compare"] or measure_comparison(subject, results)).outcomes
    obs = subject.obs(STATES["compare"])
    return [
        landscape.landscape(subject.policy.agent, obs[i], outcomes, int(i), subject.key)
        for i in np.linspace(0, len(obs) - 1, LANDSCAPES + 2).astype(int)[1:-1]
    ]


def measure_modes(subject: Subject, results: dict[str, Any]) -> Modes:
    """The distributions that inference reaches from random starts."""
    gap.check_parametric(subject.policy.agent)
    return modes.modes(subject.policy.agent, subject.obs(STATES["modes"]), subject.key)


def measure_transfer(subject: Subject, results: dict[str, Any]) -> list[Transfer]:
    """The gap of inference under objectives for which it was not trained: a bonus, and critics of other checkpoints."""
    run_dir, here = subject.policy.run_dir, subject.policy
    gap.check_parametric(here.agent)
    others = states.pick_evenly(step for step in improvement.checkpoints(run_dir) if step != here.env_steps)
    agents = {f"critic at {step:,}": policy.load(run_dir, str(step), allow_import=True).agent for step in others}
    critics = {name: agent.acting_critic(agent.likelihood) for name, agent in agents.items()}
    return transfer.transfer(here.agent, subject.obs(STATES["transfer"]), subject.key, critics)


def measure_staleness(subject: Subject, results: dict[str, Any]) -> list[Staleness]:
    """The gap of λ that are stored in the replay of this checkpoint and of some earlier checkpoints."""
    here = subject.policy
    staleness.stored_optimiser(here.agent)
    warmup = here.recipe.run.warmup_steps  # no λ is stored before its end
    steps = [step for step in improvement.checkpoints(here.run_dir) if warmup < step < here.env_steps]
    earlier, count = states.pick_evenly(steps), subject.options.states or STATES["staleness"]
    obs, stored = states.shared_states(here, [*earlier, here.env_steps], count, subject.seed)
    by_age = {here.env_steps - step: jnp.asarray(lam) for step, lam in reversed(stored.items())}
    return staleness.staleness(here.agent, subject.scaled(obs), by_age, subject.key)


def measure_calibration(subject: Subject, results: dict[str, Any]) -> Calibration:
    """The bias of Q̂, in the environment of training."""
    here = subject.policy
    calibration.critic(here.agent)
    with fresh_env(subject) as env:
        episodes = subject.options.episodes * max(1, len(env.tasks))
        return calibration.calibration(here.agent, env, here.scaling, subject.key, episodes)


def measure_realised(subject: Subject, results: dict[str, Any]) -> Realisation:
    """The gain of inferred actions, in the environment of training."""
    options, here = subject.options, subject.policy
    states.check_one_task(here, options.task)
    extent = Extent(options.states or STATES["realised"], options.episodes, options.realised_steps)
    with fresh_env(subject) as env:
        return realised(here.agent, env, here.scaling, subject.key, extent)


def measure_model(subject: Subject, results: dict[str, Any]) -> Predictions:
    """What the model predicts of episodes in the environment of training."""
    options, here = subject.options, subject.policy
    model_of(here.agent)
    with fresh_env(subject) as env:
        episodes = options.episodes * max(1, len(env.tasks))
        return predictions(here.agent, env, here.scaling, subject.key, episodes, options.states or STATES["model"])


@contextmanager
def fresh_env(subject: Subject) -> Iterator[HostEnv]:
    """The environment of training, with episodes that neither training nor its evaluations had."""
    options, recipe = subject.options, subject.policy.recipe
    run = dataclasses.replace(recipe.run, eval_episodes=options.episodes, seed=subject.seed)
    states.check_rewards(recipe)
    source = chosen_env(recipe, options.env, options.allow_import)
    with closing(make_env(source, run, subject.context, FRESH, options.task, list(subject.policy.tasks))) as env:
        check_tasks(subject.policy.spaces, env, options.task)
        yield env


INSTRUMENTS: dict[str, Callable[[Subject, dict[str, Any]], Any]] = {
    "improvement": measure_improvement,
    "gap": measure_gap,
    "compare": measure_comparison,
    "landscape": measure_landscape,
    "modes": measure_modes,
    "transfer": measure_transfer,
    "staleness": measure_staleness,
    "calibration": measure_calibration,
    "realised": measure_realised,
    "model": measure_model,
}
"""The instruments by their names in `estep inspect --only`."""
