"""Takes the steps out of the replays of a population on which no update is finite.

A run of one seed looks for them in the batch that was skipped. Here the batches stay on the device, so the steps with
the largest observations and rewards are tested: among them is whatever makes a sound agent's update overflow.
"""

from __future__ import annotations

import functools as ft
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float, Int

from estep.policy.actor import UPDATE
from estep.population import ring
from estep.population.programs.updates import one_update
from estep.population.ring import Ring
from estep.population.state import Learner, Plan, key_for, take
from estep.training.recovery.suspects import Rows, bad_rows


def to_blame(plan: Plan, learners: Learner, member: int, seed: int, updates: int) -> Rows:
    """The rows of one seed on which no update is finite; none if its agent is to blame.

    Args:
        plan: of the programs.
        learners: the state of all seeds. It is not changed.
        member: the number of the seed.
        seed: the seed.
        updates: how many updates were made, for the random numbers.
    """
    learner: Learner = take(learners, member)
    shape = plan.batch, learner.agent.length
    rows, size = map(np.asarray, largest(plan, learner.ring, shape[0] * shape[1]))

    def tested(sets: Sequence[Rows]) -> npt.NDArray[np.bool_]:
        batches = [np.resize(part, shape).astype(np.int32) for part in sets]
        return np.array([bool(unsound(plan, learner, rows, seed, np.uint32(updates % 2**32))) for rows in batches])

    return bad_rows(tested, rows[size >= 0].astype(np.int64))


@ft.partial(jax.jit, static_argnums=(0, 2))
def largest(plan: Plan, held: Ring, count: int) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """The rows of the steps with the largest observations or rewards, and the largest number of each; below 0 where
    there are fewer steps."""
    form, share = plan.form, plan.form.size.steps_per_env
    each = jnp.abs(held.obs.astype(jnp.float32)).max(-1)
    sizes = jnp.maximum(each, jnp.roll(each, -form.num_envs))[held.steps]
    sizes = jnp.maximum(sizes, jnp.abs(held.columns[held.steps, form.size.action]))
    age = (jnp.arange(share)[None] - held.first[:, None]) % share
    there = age < (held.end - held.first)[:, None]
    size, place = jax.lax.top_k(jnp.where(there, sizes, -1.0).reshape(-1), min(count, share * form.num_envs))
    return held.steps.reshape(-1)[place], size


@ft.partial(jax.jit, static_argnums=0)
def unsound(plan: Plan, learner: Learner, rows: Int[Array, "b t"], seed: Array, number: Array) -> Bool[Array, ""]:
    """Whether an update of one seed on these steps would be skipped."""
    key = jax.random.fold_in(key_for(seed, UPDATE), number)
    after, _ = one_update(learner, ring.read(plan.form, learner.ring, rows), key)
    return after.skipped > learner.skipped


@ft.partial(jax.jit, static_argnums=0, donate_argnums=1)
def drop(plan: Plan, held: Ring, member: Array, row: Array) -> Ring:
    """Take one step out of the replay of one seed."""
    own: Ring = jax.tree.map(lambda leaf: leaf[member], held)
    one = ring.drop(plan.form, own, row)
    changed: Ring = jax.tree.map(lambda all_, new: all_.at[member].set(new), held, one)
    return changed
