"""The training loop for host environments: environments → replay → updates. Updates are made in blocks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from estep.algorithms.contract import check_own
from estep.core.agent import Agent, Algorithm
from estep.core.types import Floats, Tanh, Transition
from estep.data.normalise import Moments
from estep.data.replay import Rows
from estep.data.sampling import philox
from estep.envs.base import Episode, HostEnv
from estep.policy.actor import ACT, UPDATE, Actor, Scaling, key_of, memo_of_exploration, scaling_of
from estep.policy.spaces import spaces_in
from estep.runs.leaves import skeleton
from estep.settings.run import RunConfig
from estep.training.allocation import allocate, check_fits
from estep.training.of_tasks import OfTasks, SpreadWatch
from estep.training.recovery.skips import Counts, count_skips, halt
from estep.training.recovery.suspects import allowed, to_blame
from estep.training.scale import ScaleWatch, check_image, fixed_price, note_agent, rewards_of, warn_of_bounds
from estep.training.update import Compiling, Improve, Tally, init, note_schedule, updates_wanted

RECENT = 10
"""The reported return and success are means over this many training episodes."""


class Trainer:
    """The state of a run and its training step. Everything that changes is here; all else is pure functions."""

    def __init__(self, algorithm: Algorithm, env: HostEnv, config: RunConfig, note: Callable[[str], None]) -> None:
        """Allocate replay and build the agent.

        Args:
            algorithm: the algorithm with its settings.
            env: the training environments.
            config: the settings of the run.
            note: called with lines for the user.

        Raises:
            UsageError: replay does not fit in memory, observations are images and there is no network for them, or a
                part of somebody's own does not give what it should.
        """
        self.algorithm, self.config, self.env, self.note = algorithm, config, env, note
        check_image(algorithm, env)
        spec, stored = env.spec, spaces_in(env).storage
        shaped = skeleton(algorithm, spec)
        self.rewards = rewards_of(algorithm, config, env)
        self.replay_bytes = check_fits(shaped, config, env.num_envs, stored)
        self.replay = allocate(shaped, config, env.num_envs, stored)
        self.agent: Agent = init(algorithm, spec, key_of(config.seed, 0))
        check_own(algorithm, shaped, self.sequences)
        self.moments = Moments(spec.obs_dim, spec.tasks) if config.normalise else None
        self.counts, self.tally = Counts(), Tally()
        self.recent, self.successes = deque[float](maxlen=RECENT), deque[float](maxlen=RECENT)
        self.of_tasks = OfTasks(env.tasks, RECENT)
        self.skips: deque[int] = deque()
        self.finished: list[Episode] = []
        self.seconds = {"act_s": 0.0, "env_s": 0.0, "sample_s": 0.0, "update_s": 0.0}
        self.compiled: set[str] = set()
        self.improve = Improve(self.compiled, note)
        self._actor: Actor | None = None
        self.rekey()
        self.obs: Floats = np.zeros((env.num_envs, spec.obs_dim), np.float32)
        self.halt_dump: dict[str, Any] = {}
        self.scale_watch = ScaleWatch(env, config.normalise)
        self.spread_watch = SpreadWatch(list(env.tasks), fixed_price(self.agent), note)
        warn_of_bounds(env)
        note_agent(self.agent, config.normalise, note)
        note_schedule(config, self.agent.rollout, self.block, note)
        self.sound = True
        """Whether agent and replay are whole: not while an update or the storing of a step goes on."""
        self.settled = True
        """Whether the environments are where replay says: not between a step and its storing."""

    def rekey(self) -> None:
        """Take the random numbers that belong to the seed and to how often the run went back to a checkpoint."""
        back = self.counts.rollbacks
        self.seed = self.config.seed + (back << 32)
        keys = [key_of(self.config.seed, purpose) for purpose in (ACT, UPDATE)]
        self.act_key, self.update_key = [jax.random.fold_in(key, back) if back else key for key in keys]

    def forget(self) -> None:
        """Leave out what a checkpoint does not replace, before one is loaded into a trainer that has trained."""
        self.recent, self.successes = deque[float](maxlen=RECENT), deque[float](maxlen=RECENT)
        self.of_tasks, self._actor = OfTasks(self.env.tasks, RECENT), None
        self.env.finished()
        self.finished, self.sound, self.settled = [], True, True

    def begin(self) -> None:
        """Reset the environments of a new run."""
        self.obs = self.env.reset()
        self.scale_watch.check(self.obs, 0)
        self.count_obs(self.obs)

    @property
    def scaling(self) -> Scaling:
        """Mean and scale of observations so far."""
        return scaling_of(self.moments)

    @property
    def actor(self) -> Actor:
        """The agent that acts."""
        if self._actor is None:
            self._actor = Actor(self.agent)
        return self._actor

    def advance(self) -> None:
        """Take one step in every environment, then make the updates that are due, in whole blocks."""
        self.step()
        while self.due >= self.block:
            self.update_block()

    @property
    def sequences(self) -> int:
        """Sequences in one batch: equally many of each task."""
        count, tasks = self.config.batch_size // self.agent.length, self.strata
        return max(1, count // tasks) * tasks

    @property
    def strata(self) -> int:
        """How many tasks there are; 1 with one environment."""
        return max(1, len(self.env.tasks))

    @property
    def block(self) -> int:
        """Updates in one call. With on-policy data these are all updates of a rollout."""
        agent = self.agent
        if not agent.rollout:
            return self.config.updates_per_call
        return agent.epochs * max(1, agent.rollout // (self.sequences * agent.length))

    @property
    def due(self) -> int:
        """How many updates are missing, given the number of environment steps so far."""
        rollout, counts = self.agent.rollout, self.counts
        missing = updates_wanted(self.config, rollout, self.block, counts.env_steps) - counts.updates
        if rollout:
            return missing
        ready = len(self.replay) >= self.agent.length * self.env.num_envs
        if self.strata > 1 and missing > 0:  # a task may have lost its first steps
            ready &= bool(self.replay.sequences(self.agent.length, self.strata).any(1).all())
        return missing if ready else 0

    def step(self) -> None:
        """Take one step in each environment and store it in replay."""
        u, action, memo = self.choose()
        start = time.perf_counter()
        self.settled = False
        step = self.env.step(action)
        self.seconds["env_s"] += time.perf_counter() - start
        self.sound = False
        reward = self.rewards.stored(step.reward, step.terminated | step.truncated, step.valid)
        self.replay.add(self.obs, u, reward, step.terminated, step.truncated, step.next_obs, step.valid, memo)
        self.spread_watch.add(reward, step.valid)
        self.count_obs(step.obs)
        self.obs = step.obs
        self.counts.env_steps += self.env.num_envs
        self.scale_watch.check(step.next_obs, self.counts.env_steps)
        for episode in self.env.finished():
            self.counts.episodes += 1
            self.recent.append(episode.total)
            self.successes.extend(() if episode.success is None else (episode.success,))
            self.of_tasks.add(episode)
            self.finished.append(episode)
        self.sound = self.settled = True

    def count_obs(self, obs: Floats) -> None:
        """Count observations [n, o] that are acted on, the first of an episode too. Its last one does not count."""
        if self.moments is not None:
            self.moments.update(obs)

    def choose(self) -> tuple[Floats, Floats, dict[str, Floats]]:
        """Choose actions in the current states. In the warm-up of a fresh agent they are uniform; on-policy data have
        no warm-up.

        Returns:
            The points u [E, a], the actions [E, a] and their memo.
        """
        step = self.counts.env_steps
        if step < self.config.warmup_steps and not self.agent.rollout and not self.config.start_from:
            u, action = self.explore(step)
            memo = memo_of_exploration(self.agent, u)
            return u, action, {name: np.asarray(value) for name, value in memo.items()}
        start = time.perf_counter()
        with self.compiling("the policy"):
            drawn, taken, memo = self.actor.draw(self.obs, self.act_key, np.uint32(step % 2**32), self.scaling)
            choice = np.array(drawn), np.array(taken), {name: np.array(value) for name, value in memo.items()}
        self.seconds["act_s"] += time.perf_counter() - start
        return choice

    def explore(self, step: int) -> tuple[Floats, Floats]:
        """Points u and uniform random actions. For discrete actions, u is the action itself."""
        key = np.array([self.seed, 2**63 + step], np.uint64)  # replay uses the counters below 2^63
        generator = np.random.Generator(np.random.Philox(key=key))
        u, action = self.env.action_space.uniform(generator, self.env.num_envs)
        return (u if isinstance(self.agent.spec.squash, Tanh) else action), action

    def update_block(self) -> None:
        """Sample batches and make a block of updates.

        Raises:
            NumericHalt: too many updates were skipped; `halt_dump` has the last batch.
        """
        counts, block = self.counts, self.block
        self.sound = False
        start = time.perf_counter()
        rows = self.rows()
        batches = self.read(rows)
        sampled = time.perf_counter()
        scaling = self.scaling
        number = np.uint32(counts.updates % 2**32)
        self._actor = None
        self.agent, (memo, info) = self.improve(self.agent, batches, self.update_key, number, scaling)
        read = {self.of_tasks.named(name): np.asarray(value) for name, value in jax.device_get(info).items()}
        self.seconds["sample_s"] += sampled - start
        self.seconds["update_s"] += time.perf_counter() - sampled
        if memo:
            self.replay.write(rows, {name: np.asarray(values) for name, values in memo.items()})
        counts.updates += block
        skipped = read.pop("skipped")
        self.tally.add(read if not skipped.any() else {k: v[skipped == 0] for k, v in read.items()})
        if skipped.any() or counts.skips_in_a_row:
            self.count_skips(skipped, batches, self.drop_bad(rows, skipped, scaling))
        self.sound = True

    def rows(self) -> Rows:
        """The rows of replay [K, B, T] for the next block of updates. They are sampled uniformly. For on-policy data
        they are the newest rows, in a new order in every epoch."""
        seed, count, sequences = self.seed, self.counts.updates, self.sequences
        if not self.agent.rollout:
            return self.replay.draw(seed, count, (self.block, sequences), self.agent.length, self.strata)
        newest = self.replay.newest(self.agent.rollout // self.env.num_envs, self.agent.length, self.strata)
        orders = [self.order(philox(seed, count + epoch), len(newest)) for epoch in range(self.agent.epochs)]
        per_epoch = self.block // self.agent.epochs
        chosen = np.stack([np.resize(order, (per_epoch, sequences)) for order in orders])
        return newest[chosen.reshape(self.block, sequences)]

    def read(self, rows: Rows) -> Transition:
        """The steps in these rows, as they are learned from."""
        return self.rewards.read(self.replay.read(rows))

    def order(self, generator: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        """A new order of `count` sequences of tasks that take turns, in which they take turns again."""
        tasks = self.strata
        orders = [generator.permutation(count // tasks) * tasks + task for task in range(tasks)]
        return np.stack(orders, 1).reshape(-1)

    def drop_bad(self, rows: Rows, skipped: npt.NDArray[Any], scaling: Scaling) -> npt.NDArray[np.bool_]:
        """Drop the steps of a block from replay on which no update is finite. Returns which updates had such steps."""
        counts = self.counts
        how = self.update_key, counts.updates - len(rows), scaling
        blamed = to_blame(self.agent, self.read, (rows, skipped), how)
        found = allowed(blamed, counts.dropped, counts.env_steps)
        if len(found):
            self.replay.drop(found)
            counts.dropped += len(found)
            self.note(f"note     steps without a finite update were dropped: {len(found)} ({counts.dropped} so far)")
        return np.asarray(np.isin(rows, found).any((1, 2)))

    def count_skips(self, skipped: npt.NDArray[Any], batches: Any, explained: npt.NDArray[np.bool_]) -> None:
        """Count the skipped updates of a block. `explained` are those whose steps to blame were dropped.

        Raises:
            NumericHalt: too many updates were skipped.
        """
        i = count_skips(self.counts, self.skips, skipped, explained)
        if i is not None:
            number = self.counts.updates - len(skipped) + i
            batch = {f"batch.{k}": np.asarray(v)[i] for k, v in batches._asdict().items() if k != "memo"}
            batch |= {f"batch.memo.{k}": np.asarray(v)[i] for k, v in (batches.memo or {}).items()}
            self.halt_dump = {"update": number, **batch}
            raise halt(self.counts, self.skips, number, {k[6:]: v for k, v in batch.items()})

    def compiling(self, what: str) -> Compiling:
        """A context that reports the compilation of a program when it runs for the first time."""
        return Compiling(what, self.compiled, self.note)
