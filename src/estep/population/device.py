"""Environments on the device: the chunks of a population's training, and the evaluation of all its seeds at once."""

from __future__ import annotations

import functools as ft
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from estep.core import acting
from estep.envs.base import Episode
from estep.envs.pure.environment import PureEnv, raw_of
from estep.policy.actor import EVALUATE, scale
from estep.policy.evaluate import Evaluation
from estep.population import moments
from estep.population.moments import Running
from estep.population.programs.loop import Turns, count_all, run_turns
from estep.population.state import RECENT, Learner, Plan, key_for, new_world

JUDGE, FRESH = 9, 10
"""Purposes of keys, after those of `state`: first states of a run's evaluations, and of a trained population's."""


class OnDevice:
    """A population whose environments are pure functions."""

    def __init__(self, plan: Plan, env: PureEnv, seeds: Sequence[int], learners: Learner) -> None:
        self.plan, self.env, self.learners = plan, env, learners
        self._seeds = jnp.asarray(seeds, jnp.uint32)
        self.worlds = _new_worlds(env, plan.form.num_envs, self._seeds)

    def begin(self) -> None:
        """Count the first observations of a new run."""
        self.learners = count_all(self.learners, self.worlds.obs)

    def take(self, turns: Turns, count: int) -> None:
        """Take the first `count` turns. Returns when they are done."""
        device_turns = Turns(*map(jnp.asarray, turns))
        self.learners, self.worlds = run_turns(
            self.plan, self.env, self.learners, self.worlds, self._seeds, device_turns, jnp.int32(count)
        )
        self.learners.frozen.block_until_ready()

    def failures(self) -> dict[int, str]:
        """Reasons of frozen seeds beside those that the learners tell: none."""
        return {}

    def finished(self) -> list[list[Episode]]:
        """Finished episodes by seed: environments on the device tell only sums of them."""
        return [[] for _ in self._seeds]

    def status(self) -> list[dict[str, float]]:
        """What metrics.jsonl says of the episodes of each seed."""
        worlds = jax.device_get((self.worlds.episodes, self.worlds.recent, self.worlds.bad))
        rows: list[dict[str, float]] = []
        for episodes, recent, bad in zip(*worlds, strict=True):
            row: dict[str, float] = {"episodes": int(episodes), "data/bad": int(bad)}
            known = recent[: min(int(episodes), RECENT)]
            rows.append(row | ({"return": float(known.mean())} if len(known) else {}))
        return rows

    def evaluate(self, episodes: int, number: int) -> Sequence[Evaluation | None]:
        """Whole episodes of the deterministic policy of every seed. `number` makes their first states new."""
        how = JUDGE, episodes, True
        agents = self.learners.agent, self.learners.running
        return play(self.env, how, agents, self._seeds, number)

    def tensors(self) -> dict[str, np.ndarray[Any, Any]]:
        """The arrays of a checkpoint: the state of the environments."""
        leaves = jax.device_get(jax.tree.map(raw_of, jax.tree.leaves(self.worlds)))
        return {f"{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}

    def meta(self) -> dict[str, Any]:
        """The JSON values of a checkpoint: none."""
        return {}

    def restore(self, tensors: Mapping[str, np.ndarray[Any, Any]], meta: Mapping[str, Any]) -> None:
        """Load what `tensors` gave. Raises ValueError if it does not fit."""
        leaves, structure = jax.tree.flatten(self.worlds)
        loaded = []
        for i, leaf in enumerate(leaves):
            raw, saved = raw_of(leaf), tensors[f"{i}"]
            if (saved.shape, saved.dtype) != (raw.shape, raw.dtype):
                raise ValueError(f"the state of its environments is {saved.dtype}{list(saved.shape)}")
            array = jnp.asarray(saved)
            loaded.append(array if raw is leaf else jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)))
        if len(tensors) != len(leaves):
            raise ValueError("the state of its environments has another structure")
        self.worlds = jax.tree.unflatten(structure, loaded)


@ft.partial(jax.jit, static_argnums=(0, 1))
def _new_worlds(env: PureEnv, num_envs: int, seeds: Array) -> Any:
    return jax.vmap(ft.partial(new_world, env, num_envs))(seeds)


def play(
    env: PureEnv, how: tuple[int, int, bool], agents: tuple[Any, Any], seeds: Any, number: int
) -> list[Evaluation]:
    """Whole episodes of every agent at once.

    Args:
        env: the environment.
        how: the purpose of the keys of first states, how many episodes, and whether actions are deterministic.
        agents: agents and running moments, stacked by seed.
        seeds: [s].
        number: folded into the keys, so that no two evaluations have an episode in common.
    """
    seeds, number = jnp.asarray(seeds, jnp.uint32), jnp.uint32(number % 2**32)
    totals, lengths = jax.device_get(_play(env, how, agents, seeds, number))
    scores = []
    for returns, steps in zip(totals.astype(np.float64), lengths, strict=True):
        mean, std = float(returns.mean()), float(returns.std())
        scores.append(Evaluation(mean, std, returns.tolist(), steps.tolist()))
    return scores


@ft.partial(jax.jit, static_argnums=(0, 1))
def _play(
    env: PureEnv, how: tuple[int, int, bool], agents: tuple[Any, Any], seeds: Array, number: Array
) -> tuple[Array, Array]:
    """Returns and lengths [s, n]."""
    purpose, episodes, greedy = how

    def begin(seed: Array) -> Any:
        key = jax.random.fold_in(key_for(seed, purpose), number)
        return jax.vmap(env.reset)(jax.random.split(key, episodes))

    def advance(agents: tuple[Any, Any], seed: Array, carry: Any, at: Array) -> Any:
        (agent, running), (state, alive, total, length) = agents, carry
        shift = moments.scaling(running) if isinstance(running, Running) else None
        obs = scale(jax.vmap(env.observe)(state).astype(jnp.float32), shift)
        key = jax.random.fold_in(jax.random.fold_in(key_for(seed, EVALUATE), number), at)
        action = acting.act_greedily(agent, obs, key) if greedy else acting.act_with_memo(agent, obs, key)[1]
        after, reward, terminated = jax.vmap(env.step)(state, action)
        good = alive & jnp.isfinite(reward)
        total = total + jnp.where(good, reward.astype(jnp.float32), 0.0)
        return after, good & ~terminated, total, length + good.astype(jnp.int32)

    def goes_on(carry: Any) -> Array:
        going: Array = (carry[0] < env.limit) & carry[1][1].any()
        return going

    def turn(carry: Any) -> Any:
        at, held = carry
        return at + 1, jax.vmap(advance, (0, 0, 0, None))(agents, seeds, held, at)

    shape = seeds.shape[0], episodes
    start = jax.vmap(begin)(seeds), jnp.ones(shape, bool), jnp.zeros(shape), jnp.zeros(shape, jnp.int32)
    ended = jax.lax.while_loop(goes_on, turn, (jnp.zeros((), jnp.int32), start))
    return ended[1][2], ended[1][3]
