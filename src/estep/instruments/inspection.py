"""All instruments on a run folder: what each finds, or why it does not apply."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from estep.core.types import Key
from estep.envs.build import EVAL, Source
from estep.errors import UsageError
from estep.instruments import calibration, gap, improvement, landscape, modes, optimisers, staleness, states, transfer
from estep.instruments.calibration import Calibration
from estep.instruments.gap import Gap
from estep.instruments.improvement import Improvement, Logged
from estep.instruments.landscape import Landscape
from estep.instruments.modes import Modes
from estep.instruments.optimisers import Compared, Outcome
from estep.instruments.staleness import Staleness
from estep.instruments.transfer import Transfer
from estep.policy import policy
from estep.policy.actor import INSPECT, key_of, scale
from estep.policy.environments import chosen_env, make_env
from estep.policy.job import QUIET, RunContext
from estep.policy.policy import Policy, check_spec

STATES = {"improvement": 256, "gap": 64, "compare": 32, "modes": 16, "transfer": 64, "staleness": 64}
"""In how many states each instrument measures unless it is told; with two action dimensions the gap takes 16."""
LANDSCAPES = 2
OTHERS = 4
"""Checkpoints, evenly spaced, whose critics `transfer` borrows, each of which takes as long as a gap, and whose replay
`staleness` reads."""


class Options(NamedTuple):
    """What to inspect a run with."""

    checkpoint: str = "latest"
    """best, latest, or a number of environment steps."""
    only: tuple[str, ...] = ()
    """Names of instruments; none for all."""
    states: int | None = None
    """In how many states; None for as many as suits each instrument."""
    given: npt.NDArray[np.float32] | None = None
    """States [n, o] as the environment gives them; None for the latest ones of the run."""
    iterations: int | None = None
    """Of the improvement; None for twice the trained number."""
    episodes: int = 10
    """Of the calibration."""
    seed: int | None = None
    """Of all noise and of the episodes; None for the run's own."""
    env: Source | None = None
    """The run's environment, where its folder alone does not make it."""
    allow_import: bool = False


class Growth(NamedTuple):
    """The improvement at one checkpoint, in its own latest states."""

    env_steps: int
    iteration: int
    mean: float
    low: float
    high: float


class Improved(NamedTuple):
    """The improvement at one checkpoint, at all of them, and as training logged it."""

    curve: list[Improvement]
    growth: list[Growth]
    logged: list[Logged]


class Gaps(NamedTuple):
    """The inference gap in each state."""

    exact: bool
    """Whether by quadrature."""
    rows: list[Gap]


class Climbs(NamedTuple):
    """What the optimisers reach, and the climbs themselves."""

    rows: list[Compared]
    found: list[Outcome]
    states: int


class Inspection(NamedTuple):
    """What the instruments found. One that was not asked for or does not apply is None."""

    env_steps: int
    trained_iterations: int
    improvement: Improved | None
    gap: Gaps | None
    compare: Climbs | None
    landscape: list[Landscape] | None
    modes: Modes | None
    transfer: list[Transfer] | None
    staleness: list[Staleness] | None
    calibration: Calibration | None
    not_measured: dict[str, str]
    """Why an instrument does not apply, by its name."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A policy and the states it is inspected in."""

    policy: Policy
    options: Options
    job: RunContext = QUIET

    @property
    def seed(self) -> int:
        """Of all noise and of the episodes."""
        return self.policy.recipe.run.seed if self.options.seed is None else self.options.seed

    @property
    def key(self) -> Key:
        """Of all noise."""
        return key_of(self.seed, INSPECT)

    def obs(self, count: int) -> Float[Array, "b o"]:
        """The states as the networks see them."""
        wanted = self.options.states or count
        if self.options.given is not None:
            return self.scaled(states.spaced(self.options.given, self.options.states or len(self.options.given)))
        return self.scaled(states.recorded(self.policy, self.options.checkpoint, wanted))

    def scaled(self, found: npt.NDArray[np.float32]) -> Float[Array, "b o"]:
        """States as the networks see them."""
        return scale(jnp.asarray(found), self.policy.scaling)


def inspect_run(run_dir: Path, options: Options | None = None, job: RunContext = QUIET) -> Inspection:
    """Measure inference in a recorded run with every instrument that applies to it.

    Raises:
        RejectedInput: not a run folder, no such sound checkpoint, or one without replay and no states given.
        EnvironmentFailure: the environment raised, hung or gave too many bad transitions.
    """
    chosen = options or Options()
    subject = Subject(policy.load(run_dir, chosen.checkpoint, allow_import=chosen.allow_import), chosen, job)
    found: dict[str, Any] = dict.fromkeys(INSTRUMENTS)
    refused: dict[str, str] = {}
    for name in [each for each in INSTRUMENTS if not chosen.only or each in chosen.only]:
        job.report.note(f"measuring {name}")
        try:
            found[name] = INSTRUMENTS[name](subject, found)
        except UsageError as error:
            refused[name] = error.what
    trained = improvement.trained_iterations(subject.policy.agent.inference.model)
    return Inspection(subject.policy.env_steps, trained, **found, not_measured=refused)


def measure_improvement(subject: Subject, found: dict[str, Any]) -> Improved:
    """Improvement per iteration, here and at every checkpoint of the run."""
    agent = subject.policy.agent
    steps = subject.options.iterations or improvement.BEYOND * max(improvement.most_iterations(agent), 1)
    curve = improvement.improvement(agent, subject.obs(STATES["improvement"]), subject.key, steps)
    growth = over_checkpoints(subject, steps)
    return Improved(curve, growth, improvement.logged(subject.policy.run_dir))


def over_checkpoints(subject: Subject, iterations: int) -> list[Growth]:
    """The improvement at each checkpoint that the run keeps, in the latest states of each, or in the given ones."""
    rows: list[Growth] = []
    for step in improvement.checkpoints(subject.policy.run_dir):
        then = policy.load(subject.policy.run_dir, str(step), allow_import=True)
        there = dataclasses.replace(subject, policy=then, options=subject.options._replace(checkpoint=str(step)))
        obs = there.obs(STATES["improvement"])
        rows += [Growth(step, *row) for row in improvement.improvement(then.agent, obs, subject.key, iterations)]
    return rows


def measure_gap(subject: Subject, found: dict[str, Any]) -> Gaps:
    """The inference gap and its parts."""
    agent = subject.policy.agent
    gap.check_parametric(agent)
    exact = gap.has_quadrature(agent)
    count = 16 if exact and agent.spec.action_dim == 2 else STATES["gap"]
    return Gaps(exact, gap.gap(agent, subject.obs(count), subject.key))


def measure_climbs(subject: Subject, found: dict[str, Any]) -> Climbs:
    """The optimisers beside each other."""
    agent = subject.policy.agent
    gap.check_parametric(agent)
    obs = subject.obs(STATES["compare"])
    climbs = optimisers.climbs(agent, obs, subject.key, optimisers.candidates(agent))
    return Climbs(optimisers.compared(climbs), climbs, len(obs))


def measure_landscape(subject: Subject, found: dict[str, Any]) -> list[Landscape]:
    """V around the climbs of two of the states that were compared."""
    climbs = (found["compare"] or measure_climbs(subject, found)).found
    obs = subject.obs(STATES["compare"])
    return [
        landscape.landscape(subject.policy.agent, obs[i], climbs, int(i), subject.key)
        for i in np.linspace(0, len(obs) - 1, LANDSCAPES + 2).astype(int)[1:-1]
    ]


def measure_modes(subject: Subject, found: dict[str, Any]) -> Modes:
    """The distributions that random starts lead to."""
    gap.check_parametric(subject.policy.agent)
    return modes.modes(subject.policy.agent, subject.obs(STATES["modes"]), subject.key)


def measure_transfer(subject: Subject, found: dict[str, Any]) -> list[Transfer]:
    """What inference misses under objectives that it was not trained for: a bonus, and the critics of the run's other
    checkpoints."""
    run_dir, here = subject.policy.run_dir, subject.policy
    gap.check_parametric(here.agent)
    others = some(step for step in improvement.checkpoints(run_dir) if step != here.env_steps)
    critics = {
        f"critic at {step:,}": policy.load(run_dir, str(step), allow_import=True).agent.likelihood.model
        for step in others
    }
    return transfer.transfer(here.agent, subject.obs(STATES["transfer"]), subject.key, critics)


def measure_staleness(subject: Subject, found: dict[str, Any]) -> list[Staleness]:
    """What the λ that replay keeps miss, of this checkpoint and of some before it."""
    here = subject.policy
    staleness.chained(here.agent)
    warmup = here.recipe.run.warmup_steps  # until its end nothing is kept
    earlier = some(step for step in improvement.checkpoints(here.run_dir) if warmup < step < here.env_steps)
    obs, kept = states.remembered(
        here, [*earlier, here.env_steps], subject.options.states or STATES["staleness"], subject.seed
    )
    waited = {here.env_steps - step: jnp.asarray(lam) for step, lam in reversed(kept.items())}
    return staleness.staleness(here.agent, subject.scaled(obs), waited, subject.key)


def some(steps: Iterable[int]) -> list[int]:
    """A few of the checkpoints, evenly spaced."""
    every = list(steps)
    return [every[i] for i in np.linspace(0, len(every) - 1, min(len(every), OTHERS)).astype(int)]


def measure_calibration(subject: Subject, found: dict[str, Any]) -> Calibration:
    """Predictions against returns, in the environment of training."""
    options, recipe = subject.options, subject.policy.recipe
    calibration.critic(subject.policy.agent)
    source = chosen_env(recipe, options.env, options.allow_import)
    run = dataclasses.replace(recipe.run, eval_episodes=options.episodes, seed=subject.seed)
    with closing(make_env(source, run, subject.job, EVAL)) as env:
        check_spec(env.spec, subject.policy.agent.spec)
        return calibration.calibration(subject.policy.agent, env, subject.policy.scaling, subject.key, options.episodes)


INSTRUMENTS: dict[str, Callable[[Subject, dict[str, Any]], Any]] = {
    "improvement": measure_improvement,
    "gap": measure_gap,
    "compare": measure_climbs,
    "landscape": measure_landscape,
    "modes": measure_modes,
    "transfer": measure_transfer,
    "staleness": measure_staleness,
    "calibration": measure_calibration,
}
"""By the name that `estep inspect --only` knows."""
