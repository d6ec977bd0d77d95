"""The training step of a population: which turns come next, and the state that a checkpoint holds."""

from __future__ import annotations

import functools as ft
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from estep.core.agent import Algorithm
from estep.envs.base import Episode
from estep.policy.evaluate import Evaluation
from estep.policy.starts.from_run import check_no_frozen_part
from estep.population import state
from estep.population.programs import dropping
from estep.population.programs.loop import Turns
from estep.population.programs.updates import SKIPS_IN_A_ROW
from estep.population.state import Learner, Plan
from estep.runs.leaves import skeleton
from estep.settings.run import RunConfig
from estep.training.recovery.suspects import allowed
from estep.training.update import updates_wanted

LONGEST = 1024
"""Turns in one call of a program."""
SECONDS = 2.0
"""About so long a call may take, so that a signal is answered soon."""
REASONS = {
    state.SKIPS: f"{SKIPS_IN_A_ROW} updates in a row had a loss or gradient that is not finite",
    state.BAD: "its environment gave too many transitions that are not finite",
}


class Engine(Protocol):
    """The environments of all seeds, on the device or on the host, and the seeds that learn in them."""

    learners: Learner

    def begin(self) -> None:
        """Begin a new run."""

    def take(self, turns: Turns, count: int) -> None:
        """Take the first `count` turns. Returns when they are done."""

    def failures(self) -> Mapping[int, str]:
        """The seeds whose environments failed, with the reason."""

    def finished(self) -> list[list[Episode]]:
        """The episodes of each seed that ended since the last call, where they are known one by one."""

    def status(self) -> list[dict[str, float]]:
        """What metrics.jsonl says of the episodes of each seed."""

    def evaluate(self, episodes: int, number: int) -> Sequence[Evaluation | None]:
        """Whole episodes of the deterministic policy of every seed."""

    def tensors(self) -> dict[str, np.ndarray[Any, Any]]:
        """The arrays of a checkpoint."""

    def meta(self) -> dict[str, Any]:
        """The JSON values of a checkpoint."""

    def restore(self, tensors: Mapping[str, np.ndarray[Any, Any]], meta: Mapping[str, Any]) -> None:
        """Load what `tensors` and `meta` gave."""


class Schedule(NamedTuple):
    """How many updates follow each turn. It depends on counts alone, so that all seeds have the same."""

    config: RunConfig
    rollout: int
    length: int
    block: int

    def blocks(self, env_steps: int, updates: int) -> int:
        """Blocks of updates that are due."""
        if not self.rollout and env_steps < self.length * self.config.num_envs:
            return 0
        return max(0, updates_wanted(self.config, self.rollout, self.block, env_steps) - updates) // self.block

    def turns(self, env_steps: int, updates: int, count: int) -> tuple[Turns, int, int]:
        """The next turns, and the counts after them."""
        rows = []
        for _ in range(count):
            explore = env_steps < self.config.warmup_steps and not self.rollout
            before, env_steps = env_steps, env_steps + self.config.num_envs
            blocks = self.blocks(env_steps, updates)
            rows.append((before % 2**32, explore, updates % 2**32, blocks))
            updates += blocks * self.block
        table = np.zeros((LONGEST, 4), np.int64)
        table[:count] = rows
        kinds: tuple[Any, ...] = (np.uint32, np.bool_, np.uint32, np.int32)
        columns: list[Any] = [table[:, i].astype(kind) for i, kind in enumerate(kinds)]
        return Turns(*columns), env_steps, updates


@ft.partial(jax.jit, static_argnums=(0, 1))
def new_learners(algorithm: Algorithm, plan: Plan, seeds: Any) -> Learner:
    """New agents of all seeds."""
    return jax.vmap(ft.partial(state.new_learner, algorithm, plan))(seeds)


class PopulationTrainer:
    """The state of a population and its training step."""

    def __init__(self, algorithm: Algorithm, plan: Plan, config: RunConfig, make: Callable[[Learner], Engine]) -> None:
        """Make new agents.

        Args:
            algorithm: the algorithm with its settings.
            plan: of the programs.
            config: the settings of the run, with its `population`.
            make: makes the environments with these agents.

        Raises:
            UsageError: the algorithm takes a part of another run.
        """
        check_no_frozen_part(algorithm)
        self.config, self.plan = config, plan
        self.seeds = [config.seed + i for i in range(config.population or 1)]
        self.shape = skeleton(algorithm, plan.spec)
        self.engine = make(new_learners(algorithm, plan, jnp.asarray(self.seeds, jnp.uint32)))
        agent = self.shape
        self.schedule = Schedule(config, agent.rollout, agent.length, plan.block)
        self.env_steps, self.updates = 0, 0
        self.turn_s: float | None = None
        """Seconds of a turn with updates, as measured last."""
        self.failed: dict[int, str] = {}
        """The frozen seeds by number, with the reason."""
        self.dropped = [0] * len(self.seeds)
        """How many steps of each seed were taken out of replay."""
        self.seen = [0] * len(self.seeds)
        """The skipped updates of each seed at the last call of `drop_bad`."""

    def turns_to(self, every: Sequence[int], steps: int) -> int:
        """Turns until a multiple of one of these numbers of steps is crossed or the end is reached, at most LONGEST."""
        envs, now = self.config.num_envs, self.env_steps
        ends = [steps, *((now // each + 1) * each for each in every if each)]
        wanted = -(-(min(ends) - now) // envs)
        quick = 8 if self.turn_s is None else max(1, int(SECONDS / self.turn_s))
        return max(1, min(wanted, LONGEST, quick))

    def advance(self, count: int) -> dict[int, str]:
        """Take turns. Returns the seeds that were frozen in them, with the reason."""
        turns, env_steps, updates = self.schedule.turns(self.env_steps, self.updates, count)
        start = time.perf_counter()
        self.engine.take(turns, count)
        seconds = (time.perf_counter() - start) / count
        if updates > self.updates:
            self.turn_s = seconds if self.turn_s is None else min(2 * self.turn_s, seconds)
        self.env_steps, self.updates = env_steps, updates
        return self.note_failures()

    def note_failures(self) -> dict[int, str]:
        """The seeds that were frozen since the last call, with the reason."""
        frozen = jax.device_get(self.engine.learners.frozen)
        known = {i: REASONS[int(code)] for i, code in enumerate(frozen) if code} | dict(self.engine.failures())
        new = {i: why for i, why in known.items() if i not in self.failed}
        self.failed |= new
        return new

    def drop_bad(self) -> dict[int, int]:
        """Take steps out of the replays of the seeds that have skipped updates since the last call, if no update on
        them is finite. Returns how many of each seed.
        """
        skipped, frozen = jax.device_get((self.engine.learners.skipped, self.engine.learners.frozen))
        new: dict[int, int] = {}
        for i in np.flatnonzero((skipped > np.array(self.seen)) & (frozen == 0)).tolist():
            blamed = dropping.to_blame(self.plan, self.engine.learners, i, self.seeds[i], self.updates)
            for row in (rows := allowed(blamed, self.dropped[i], self.env_steps)):
                held = dropping.drop(self.plan, self.engine.learners.ring, np.int32(i), np.int32(row))
                self.engine.learners = self.engine.learners._replace(ring=held)
            self.dropped[i] += len(rows)
            new |= {i: len(rows)} if len(rows) else {}
        self.seen = skipped.tolist()
        return new

    def means(self) -> list[dict[str, float]]:
        """The mean of each metric of each seed over the updates since `forget`."""
        learners = self.engine.learners
        sums, counted, skipped = jax.device_get((learners.sums, learners.counted, learners.skipped))
        rows = []
        for i, count in enumerate(counted):
            means = {name: float(total[i]) / int(count) for name, total in sums.items()} if count else {}
            rows.append({**means, "skipped": int(skipped[i])})
        return rows

    def forget(self) -> None:
        """Begin new sums of metrics."""
        learners = self.engine.learners
        fresh = jax.tree.map(jnp.zeros_like, (learners.sums, learners.counted))
        self.engine.learners = learners._replace(sums=fresh[0], counted=fresh[1])
