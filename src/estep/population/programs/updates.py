"""The updates of all seeds of a population, without their environments."""

from __future__ import annotations

import functools as ft
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from estep.core.em import step as em_step
from estep.core.types import Key, Memo, Transition
from estep.policy.actor import UPDATE, scale
from estep.population import ring
from estep.population.state import DRAW, SKIPS, Learner, Plan, key_for, scaling_of

SKIPS_IN_A_ROW = 20
"""A seed is frozen after so many skipped updates in a row."""


def make_updates(plan: Plan, learners: Learner, seeds: Array, before: Array, blocks: Array) -> Learner:
    """Blocks of updates of all seeds. As in a run of one seed, the batches of a block are read before its updates."""

    def block(i: Array, learners: Learner) -> Learner:
        number = before + jnp.uint32(plan.block) * i.astype(jnp.uint32)
        rows = jax.vmap(ft.partial(_rows, plan), (0, 0, None))(learners, seeds, number)
        batches = jax.vmap(ft.partial(ring.read, plan.form))(learners.ring, rows)
        whole: Any = learners
        improve = each_seed(ft.partial(_improve, plan, number))
        new, memo, allowed = improve(whole._replace(ring=None), batches, seeds)
        held = learners.ring
        if plan.form.memo:
            held = jax.vmap(ft.partial(ring.write, plan.form))(held, rows, memo, allowed)
        found: Learner = new._replace(ring=held)
        return found

    found: Learner = jax.lax.fori_loop(0, blocks, block, learners)
    return found


def each_seed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one seed as a function of all seeds.

    An accelerator computes all seeds at once. A CPU takes one after the other: each is then exactly the program of a
    run of its own, and its agent stays in the cache.
    """
    if jax.default_backend() != "cpu":
        return jax.vmap(function)
    return lambda *args: jax.lax.map(lambda one: function(*one), args)


def _rows(plan: Plan, learner: Learner, seed: Array, number: Array) -> Int[Array, "k b t"]:
    """The rows of the batches of a block of updates of one seed. `number` is how many updates it had before."""
    agent, draw = learner.agent, key_for(seed, DRAW)
    count = agent.epochs if agent.rollout else plan.block
    keys = jax.vmap(ft.partial(jax.random.fold_in, draw))(number + jnp.arange(count, dtype=jnp.uint32))
    if not agent.rollout:
        one = ft.partial(ring.draw, plan.form, learner.ring, count=plan.batch, length=agent.length)
        return jax.vmap(lambda key: one(key=key))(keys)
    shape = agent.epochs, plan.block // agent.epochs * plan.batch  # all updates of a rollout, in their order
    each = agent.rollout // plan.form.num_envs
    rows = ring.newest(plan.form, learner.ring, keys, shape, each, agent.length)
    return rows.reshape(plan.block, plan.batch, agent.length)


def _improve(
    plan: Plan, number: Array, learner: Learner, batches: Transition, seed: Array
) -> tuple[Learner, Memo, Bool[Array, "k 1 1"]]:
    """A block of updates of one seed without its replay.

    Returns:
        The new state, the new memo of the batches, and in which updates it may be written.
    """

    def update(learner: Learner, item: tuple[Array, Transition]) -> tuple[Learner, tuple[Memo, Array]]:
        number, batch = item
        return one_update(learner, batch, jax.random.fold_in(key_for(seed, UPDATE), number))

    numbers = number + jnp.arange(plan.block, dtype=jnp.uint32)
    learner, (memo, going) = jax.lax.scan(update, learner, (numbers, batches))
    return learner, memo, going[:, None, None]


def one_update(learner: Learner, batch: Transition, key: Key) -> tuple[Learner, tuple[Memo, Array]]:
    """One update of one seed. Returns also the new memo of the batch, and whether the seed was not frozen before."""
    going = learner.frozen == 0
    shift = scaling_of(learner)
    batch = batch._replace(
        obs=scale(batch.obs, shift),
        next_obs=scale(batch.next_obs, shift),
        reward=jnp.where(going, batch.reward, jnp.nan),
    )
    agent, memo, info = em_step(learner.agent, batch, key)
    skipped = info["skipped"] > 0
    row = jnp.where(going, jnp.where(skipped, learner.skips_in_a_row + 1, 0), learner.skips_in_a_row)
    learner = learner._replace(
        agent=agent,
        frozen=jnp.where(going & (row >= SKIPS_IN_A_ROW), SKIPS, learner.frozen),
        skips_in_a_row=row,
        skipped=learner.skipped + (going & skipped).astype(jnp.int32),
        counted=learner.counted + (going & ~skipped).astype(jnp.int32),
        sums={name: total + jnp.where(skipped, 0.0, info[name]) for name, total in learner.sums.items()},
    )
    return learner, (memo, going)
