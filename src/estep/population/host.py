"""Environments on the host for all seeds of a population: the interface, and stepping them one after the other."""

from __future__ import annotations

import functools as ft
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from estep.core.types import Floats
from estep.envs.base import Episode, HostEnv, Progress, Step
from estep.errors import EnvironmentFailure, NumericHalt
from estep.policy.actor import EVALUATE, compile_acting, key_of
from estep.policy.evaluate import Evaluation, scores_of
from estep.population.loop import Turns, choose_all, count_all, cut_all, learn_all
from estep.population.moments import Running, scaling
from estep.population.ring import Stored
from estep.population.state import BAD, RECENT, Learner, Plan
from estep.training.snapshot import number, unfinished_episodes


class Outcome(NamedTuple):
    """One step of the environments of all seeds."""

    step: Step
    """Arrays [s, e, ...]."""
    failed: Mapping[int, str]
    """The seeds whose environments failed in this step, with the reason. They are not stepped again."""


class HostBatch(Protocol):
    """The environments of all seeds on the host. One that steps them in threads can take the place of `OneByOne`."""

    envs: Sequence[HostEnv]
    """The environments of each seed: their spaces, episodes and counters, for logs and checkpoints."""

    def reset(self) -> Floats:
        """Begin the next episode everywhere. Returns observations [s, e, o]."""

    def step(self, action: Floats, frozen: Sequence[bool]) -> Outcome:
        """Take one step in each environment of the seeds that are not frozen.

        Args:
            action: [s, e, a], in [-1, 1] or one-hot.
            frozen: by seed. A frozen seed keeps its observations, and its steps are not valid.
        """

    def hold(self, obs: Floats) -> None:
        """Take these observations [s, e, o] as the current ones, after each of `envs` was restored."""


class OneByOne:
    """Environments that are stepped one after the other in this thread."""

    def __init__(self, envs: Sequence[HostEnv]) -> None:
        self.envs: Sequence[HostEnv] = list(envs)
        self._obs: Floats = np.zeros((len(envs), envs[0].num_envs, envs[0].spec.obs_dim), np.float32)

    def reset(self) -> Floats:
        self._obs = np.stack([env.reset() for env in self.envs])
        return self._obs

    def step(self, action: Floats, frozen: Sequence[bool]) -> Outcome:
        steps, failed = [], {}
        for i, (env, is_frozen) in enumerate(zip(self.envs, frozen, strict=True)):
            found = None
            if not is_frozen:
                try:
                    found = env.step(action[i])
                except (EnvironmentFailure, NumericHalt) as error:
                    failed[i] = error.what
            steps.append(found or self._no_step(i))
        self._obs = np.stack([step.obs for step in steps])
        return Outcome(Step(*(np.stack(parts) for parts in zip(*steps, strict=True))), failed)

    def hold(self, obs: Floats) -> None:
        self._obs = obs

    def _no_step(self, i: int) -> Step:
        obs, no = self._obs[i], np.zeros(len(self._obs[i]), np.bool_)
        return Step(obs, np.zeros(len(obs), np.float32), no, ~no, no, obs)


class OnHost:
    """A population whose environments are on the host. Agents and replays are on the device."""

    def __init__(
        self, plan: Plan, batches: tuple[HostBatch, Sequence[HostEnv]], seeds: Sequence[int], learners: Learner
    ):
        self.plan, self.learners, self.seeds = plan, learners, list(seeds)
        self.batch, self.judges = batches
        self._seeds = jnp.asarray(seeds, jnp.uint32)
        self._failed: dict[int, str] = {}
        count = len(self.seeds)
        self._frozen = [False] * count
        self._recent: list[deque[float]] = [deque(maxlen=RECENT) for _ in range(count)]
        self._successes: list[deque[float]] = [deque(maxlen=RECENT) for _ in range(count)]
        self._episodes = [0] * count
        self._finished: list[list[Episode]] = [[] for _ in range(count)]
        self.obs: Floats = np.zeros((count, plan.form.num_envs, plan.spec.obs_dim), np.float32)

    def begin(self) -> None:
        """Reset the environments of a new run, and count their first observations."""
        self.obs = self.batch.reset()
        self.learners = count_all(self.learners, jnp.asarray(self.obs))

    def take(self, turns: Turns, count: int) -> None:
        """Take the first `count` turns."""
        self._frozen = [bool(flag) for flag in jax.device_get(self.learners.frozen)]
        for i in range(count):
            env_steps, explore, updates, blocks = (part[i] for part in turns)
            u, action, memo = choose_all(self.plan, self.learners, self.obs, self._seeds, env_steps, explore)
            step, failed = self.batch.step(np.array(action), self._frozen)
            self._fail(failed)
            parts: Any = (self.obs, u, step.reward, step.terminated, step.truncated, step.next_obs, step.valid)
            due = np.uint32(updates), np.int32(blocks)
            self.learners = learn_all(self.plan, self.learners, Stored(*parts), memo, step.obs, self._seeds, due)
            self.obs = step.obs
            self._tally()
        self.learners.frozen.block_until_ready()

    def failures(self) -> dict[int, str]:
        """The seeds whose environments failed, with the reason."""
        return self._failed

    def finished(self) -> list[list[Episode]]:
        """The episodes of each seed that ended since the last call."""
        found, self._finished = self._finished, [[] for _ in self.seeds]
        return found

    def status(self) -> list[dict[str, float]]:
        """What metrics.jsonl says of the episodes of each seed."""
        rows = []
        for i, env in enumerate(self.batch.envs):
            row: dict[str, float] = {"episodes": self._episodes[i], "data/bad": env.bad}
            row |= {"data/retries": env.retries} if env.retries else {}
            for name, values in (("return", self._recent[i]), ("success", self._successes[i])):
                row |= {name: float(np.mean(values))} if values else {}
            rows.append(row)
        return rows

    def evaluate(self, episodes: int, number: int) -> list[Evaluation | None]:
        """Whole episodes of the deterministic policy of every seed, all in one call of the policies a step.

        None stands for a seed whose environments failed.
        """
        agents = self.learners.agent, self.learners.running
        gone = {i for i, flag in enumerate(jax.device_get(self.learners.frozen)) if flag}
        scores, failed = evaluate_all(agents, self.judges, self.seeds, (episodes, number, True), gone)
        self._fail(failed)
        return scores

    def tensors(self) -> dict[str, np.ndarray[Any, Any]]:
        """The arrays of a checkpoint: actions and last observations of the unfinished episodes."""
        found = {}
        for i in range(len(self.seeds)):
            for j, one in enumerate(self._unfinished(i)):
                found[f"{i}.{j}.actions"], found[f"{i}.{j}.obs"] = one.actions, one.obs
        return found

    def meta(self) -> dict[str, Any]:
        """The JSON values of a checkpoint."""
        envs = self.batch.envs
        unfinished = map(self._unfinished, range(len(envs)))
        records = [[{"episode": p.episode, "length": p.length, "total": p.total} for p in one] for one in unfinished]
        values = {"recent": self._recent, "successes": self._successes}
        return {
            "progress": records,
            "bad": [env.counters() for env in envs],
            "finished": self._episodes,
            **{name: [list(each) for each in known] for name, known in values.items()},
        }

    def restore(self, tensors: Mapping[str, np.ndarray[Any, Any]], meta: Mapping[str, Any]) -> None:
        """Load what `tensors` and `meta` gave. An episode that cannot be restored exactly is truncated."""
        observed, exact = list(np.zeros_like(self.obs)), np.ones(self.obs.shape[:2], np.bool_)
        self._frozen = [bool(flag) for flag in jax.device_get(self.learners.frozen)]
        for i, env in enumerate(self.batch.envs):
            env.load_counters(meta["bad"][i])
            self._recent[i].extend(number(value) for value in meta["recent"][i])
            self._successes[i].extend(number(value) for value in meta["successes"][i])
            if self._frozen[i]:
                continue
            mine = {name.partition(".")[2]: array for name, array in tensors.items() if name.startswith(f"{i}.")}
            observed[i], exact[i] = env.restore(unfinished_episodes(env, meta["progress"][i], mine))
            env.load_counters(meta["bad"][i])  # again, because replaying episodes counts their steps
        self._episodes = [int(count) for count in meta["finished"]]
        self.obs = np.stack(observed)
        self.batch.hold(self.obs)
        inexact = ~exact
        if inexact.any():
            self.learners = cut_all(self.plan, self.learners, jnp.asarray(inexact))
            self.learners = count_all(self.learners, jnp.where(inexact[..., None], self.obs, jnp.nan))

    def _unfinished(self, member: int) -> list[Progress]:
        """The unfinished episodes of a seed. A frozen one has none: its environments may not answer any more."""
        return [] if self._frozen[member] else self.batch.envs[member].progress()

    def _fail(self, failed: Mapping[int, str]) -> None:
        """Freeze the seeds whose environments failed."""
        self._failed |= failed
        for member in failed:
            self._frozen[member] = True
            self.learners = self.learners._replace(frozen=self.learners.frozen.at[member].set(BAD))

    def _tally(self) -> None:
        for i, env in enumerate(self.batch.envs):
            for episode in env.finished():
                self._episodes[i] += 1
                self._recent[i].append(episode.total)
                self._successes[i].extend(() if episode.success is None else (episode.success,))
                self._finished[i].append(episode)


def evaluate_all(
    agents: tuple[Any, Any], envs: Sequence[HostEnv], seeds: Sequence[int], how: tuple[int, int, bool], out: Any = ()
) -> tuple[list[Evaluation | None], dict[int, str]]:
    """Whole episodes of every agent in environments of its own, in steps that all of them take together.

    Args:
        agents: agents and running moments, stacked by seed.
        envs: the environments of each agent, equally many.
        seeds: of the random numbers of inference and of sampled actions.
        how: how many episodes, the number of the first, and whether actions are deterministic.
        out: agents that are left out.

    Returns:
        Evaluations, None for those that are left out or failed; and the reasons of those that failed.
    """
    episodes, first, deterministic = how
    leaves, structure = jax.tree.flatten(agents[0])
    numbers, programs = compiled(structure)
    shift = jax.vmap(scaling)(agents[1]) if isinstance(agents[1], Running) else None
    act = programs[deterministic, shift is not None]
    held, keys = [leaves[i] for i in numbers], jnp.stack([key_of(seed, EVALUATE) for seed in seeds])
    judged = {i: Judged(env) for i, env in enumerate(envs) if i not in out}
    obs: Floats = np.zeros((len(envs), envs[0].num_envs, envs[0].spec.obs_dim), np.float32)
    for i, one in judged.items():
        obs[i] = one.begin(first)
    step = 0
    while going := [i for i, one in judged.items() if one.goes_on(episodes)]:
        action = act(held, jnp.asarray(obs), keys, np.uint32(step), shift)
        taken = np.asarray(action if deterministic else action[1])
        for i in going:
            obs[i] = judged[i].step(taken[i], obs[i])
        step += 1
    failed = {i: one.failure for i, one in judged.items() if one.failure}
    sound = {i: scores_of(one.done, one.env, episodes) for i, one in judged.items() if not one.failure}
    return [sound.get(i) for i in range(len(envs))], failed


@ft.cache
def compiled(structure: Any) -> tuple[tuple[int, ...], dict[tuple[bool, bool], Any]]:
    """The programs that choose actions of all agents of a structure, by whether they are deterministic and whether
    observations are normalised; and the leaves of the agents that they read."""
    programs = compile_acting(structure)
    axes = {normalised: (0, 0, 0, None, 0 if normalised else None) for normalised in (False, True)}
    ways = {True: programs.mode, False: programs.draw}
    found = {(way, normal): jax.jit(jax.vmap(ways[way], axes[normal])) for way in ways for normal in axes}
    return programs.leaf_numbers, found


class Judged:
    """The evaluation of one seed in its environments."""

    def __init__(self, env: HostEnv) -> None:
        self.env, self.done, self.failure = env, list[Episode](), ""

    def begin(self, first: int) -> Floats:
        """The first observations of the episodes of this number."""
        self.env.finished()  # what an earlier evaluation left
        return self.env.reset(first)

    def goes_on(self, episodes: int) -> bool:
        """Whether there are too few episodes so far."""
        rounds = -(-episodes // self.env.num_envs)
        counts = [sum(e.env == j for e in self.done) for j in range(self.env.num_envs)]
        return not self.failure and min(counts) < rounds

    def step(self, action: Floats, obs: Floats) -> Floats:
        """The observations after an action. A failure of the environments is remembered."""
        try:
            obs = self.env.step(action).obs
        except (EnvironmentFailure, NumericHalt) as error:
            self.failure = error.what
        self.done += self.env.finished()
        return obs
