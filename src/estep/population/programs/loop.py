"""The training loop of a population as compiled programs: act, step, store, sample and update, for all seeds at once.

Loops and decisions that are the same for every seed stand outside of `jax.vmap`, so that the programs run only what is
due. A frozen seed gets rewards that are not a number: `core.em` then leaves its agent exactly as it is.
"""

from __future__ import annotations

import functools as ft
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from estep.core.acting import act_with_memo
from estep.core.types import Memo
from estep.envs.pure.environment import PureEnv
from estep.policy.actor import ACT, scale
from estep.population import moments, ring
from estep.population.moments import Running
from estep.population.programs.updates import make_updates
from estep.population.ring import Stored
from estep.population.state import (
    BAD,
    EXPLORE,
    RECENT,
    RESET,
    Learner,
    Plan,
    World,
    key_for,
    scaling_of,
)
from estep.priors.uniform import Uniform

BAD_IN_A_ROW, BAD_IN_ALL, BAD_SHARE = 10, 10, 1000
"""A seed is frozen after so many bad transitions in a row of one environment, or more than so many (and more than one
in BAD_SHARE) in all."""


class Turns(NamedTuple):
    """What happens in each turn, which is one step of every environment and then updates. The same for all seeds."""

    env_steps: Int[Array, " n"]
    """Environment steps of a seed before the turn, mod 2^32."""
    explore: Array
    """[n]: whether actions are uniform."""
    updates: Int[Array, " n"]
    """Updates before the turn, mod 2^32."""
    blocks: Int[Array, " n"]
    """Blocks of updates after it."""


@ft.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def run_turns(
    plan: Plan, env: PureEnv, learners: Learner, worlds: World, seeds: Array, turns: Turns, count: Array
) -> tuple[Learner, World]:
    """The first `count` turns of a schedule, in environments on the device.

    Args:
        plan, env: static.
        learners, worlds: the state of all seeds; their arrays are reused and must not be read afterwards.
        seeds: [s].
        turns: the schedule.
        count: how many of its turns to take, so that one program serves chunks of all lengths.
    """

    def turn(i: Array, carry: tuple[Learner, World]) -> tuple[Learner, World]:
        learners, worlds = carry
        at = jax.tree.map(lambda part: part[i], turns)
        interact = ft.partial(_interact, plan, env)
        learners, worlds = jax.vmap(interact, (0, 0, 0, None, None))(learners, worlds, seeds, at.env_steps, at.explore)
        return make_updates(plan, learners, seeds, at.updates, at.blocks), worlds

    found: tuple[Learner, World] = jax.lax.fori_loop(0, count, turn, (learners, worlds))
    return found


@ft.partial(jax.jit, static_argnums=0)
def choose_all(
    plan: Plan, learners: Learner, obs: Float[Array, "s e o"], seeds: Array, env_steps: Array, explore: Array
) -> tuple[Array, Array, Memo]:
    """The points u, the actions and the memo of all seeds [s, e, ...], for environments on the host."""
    choose = ft.partial(_choose, plan)
    return jax.vmap(choose, (0, 0, 0, None, None))(learners, obs, seeds, env_steps, explore)


def store_all(plan: Plan, learners: Learner, stored: Stored, memo: Memo, seen: Any) -> Learner:
    """Store one step of environments on the host, and count the observations that are acted on next.

    Agents do not go through this program: handing over their many arrays costs more than the step itself.

    Args:
        plan: static.
        learners: the state of all seeds; the arrays of replay are reused.
        stored, memo: the step [s, e, ...].
        seen: the observations to act on next [s, e, o].
    """
    whole: Any = learners
    held = _store_all(plan, whole._replace(agent=None, sums=None), stored, memo, seen)
    found: Learner = held._replace(agent=learners.agent, sums=learners.sums)
    return found


@ft.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _store_all(plan: Plan, learners: Learner, stored: Stored, memo: Memo, seen: Array) -> Learner:
    def store(learner: Learner, stored: Stored, memo: Memo, seen: Array) -> Learner:
        return _count(_store(plan, learner, stored, memo), seen)

    return jax.vmap(store)(learners, stored, memo, seen)


@ft.partial(jax.jit, static_argnums=0, donate_argnums=1)
def update_all(plan: Plan, learners: Learner, seeds: Array, before: Array, blocks: Array) -> Learner:
    """Blocks of updates of all seeds, whose environments are on the host.

    Args:
        plan: static.
        learners: the state of all seeds; its arrays are reused.
        seeds: [s].
        before: updates so far, mod 2^32.
        blocks: how many blocks of updates.
    """
    return make_updates(plan, learners, seeds, before, blocks)


@ft.partial(jax.jit, donate_argnums=0)
def count_all(learners: Learner, seen: Array) -> Learner:
    """Count observations [s, e, o], such as the first of all."""
    return jax.vmap(_count)(learners, seen)


@ft.partial(jax.jit, static_argnums=0, donate_argnums=1)
def cut_all(plan: Plan, learners: Learner, which: Array) -> Learner:
    """End the unfinished episodes of these environments [s, e] as truncated."""

    def cut(learner: Learner, which: Array) -> Learner:
        return learner._replace(ring=ring.cut(plan.form, learner.ring, which))

    return jax.vmap(cut)(learners, which)


def _choose(
    plan: Plan, learner: Learner, obs: Float[Array, "e o"], seed: Array, env_steps: Array, explore: Array
) -> tuple[Array, Array, Memo]:
    """Actions of one seed: uniform, or those of its policy."""
    agent, envs = learner.agent, obs.shape[0]

    def uniformly() -> tuple[Array, Array, Memo]:
        q, remember = Uniform(agent.spec).density, agent.remember
        keys = jax.random.split(jax.random.fold_in(key_for(seed, EXPLORE), env_steps), envs)
        u = jax.vmap(q.sample)(keys)
        memo = {} if remember is None else jax.vmap(lambda point: remember(agent, q, point))(u)
        return u, jax.vmap(agent.spec.squash)(u), memo

    def by_policy() -> tuple[Array, Array, Memo]:
        key = jax.random.fold_in(key_for(seed, ACT), env_steps)
        return act_with_memo(agent, scale(obs, scaling_of(learner)), key)

    if agent.rollout:
        return by_policy()
    chosen: tuple[Array, Array, Memo] = jax.lax.cond(explore, uniformly, by_policy)
    return chosen


def _store(plan: Plan, learner: Learner, stored: Stored, memo: Memo) -> Learner:
    """Store one step of one seed with its scaled reward, unless it is frozen."""
    reward = stored.reward * plan.reward_scale
    stored = stored._replace(reward=reward, valid=stored.valid & (learner.frozen == 0))
    return learner._replace(ring=ring.add(plan.form, learner.ring, stored, memo))


def _count(learner: Learner, seen: Float[Array, "e o"]) -> Learner:
    if not isinstance(learner.running, Running):
        return learner
    return learner._replace(running=moments.count(learner.running, seen))


def _interact(
    plan: Plan, env: PureEnv, learner: Learner, world: World, seed: Array, env_steps: Array, explore: Array
) -> tuple[Learner, World]:
    """One step of the environments of one seed, stored in its replay."""
    u, action, memo = _choose(plan, learner, world.obs, seed, env_steps, explore)
    state, reward, terminated = jax.vmap(env.step)(world.state, action)
    next_obs, reward = jax.vmap(env.observe)(state).astype(jnp.float32), reward.astype(jnp.float32)
    valid = jnp.isfinite(next_obs).all(-1) & jnp.isfinite(reward)
    truncated = world.length + 1 >= env.limit
    learner = _store(plan, learner, Stored(world.obs, u, reward, terminated, truncated, next_obs, valid), memo)
    over = terminated | truncated | ~valid
    keys = jax.random.split(jax.random.fold_in(key_for(seed, RESET), env_steps), over.shape[0])
    fresh = jax.vmap(env.reset)(keys)
    state = jax.tree.map(lambda new, old: jnp.where(_wide(over, new), new, old), fresh, state)
    first = jax.vmap(env.observe)(fresh).astype(jnp.float32)
    world = _tally(world, learner.frozen == 0, (reward, valid, over))
    world = world._replace(state=state, obs=jnp.where(over[:, None], first, next_obs))
    gone = (world.bad_in_a_row >= BAD_IN_A_ROW).any()
    gone = gone | (world.bad > jnp.maximum(BAD_IN_ALL, world.seen // BAD_SHARE))
    frozen = jnp.where((learner.frozen == 0) & gone, BAD, learner.frozen)
    return _count(learner._replace(frozen=frozen), world.obs), world


def _wide(flag: Array, like: Array) -> Array:
    return flag.reshape(flag.shape[0], *[1] * (like.ndim - 1))


def _tally(world: World, alive: Array, outcome: tuple[Array, Array, Array]) -> World:
    """Count the steps and the episodes of one seed. `outcome` is reward, valid and over [e]."""
    reward, valid, over = outcome
    good = valid.astype(jnp.int32)
    length, total = world.length + good, world.total + jnp.where(valid, reward, 0.0)
    finished = over & (length > 0) & alive
    rank = jnp.cumsum(finished.astype(jnp.int32))
    kept = finished & (rank > rank[-1] - RECENT)
    place = jnp.where(kept, (world.episodes + rank - 1) % RECENT, RECENT)
    counts = alive.astype(jnp.int32)
    return world._replace(
        length=jnp.where(over, 0, length),
        total=jnp.where(over, 0.0, total),
        bad_in_a_row=jnp.where(valid, 0, world.bad_in_a_row + counts),
        bad=world.bad + counts * (1 - good).sum(),
        seen=world.seen + counts * valid.shape[0],
        episodes=world.episodes + rank[-1],
        recent=world.recent.at[place].set(total, mode="drop"),
    )
