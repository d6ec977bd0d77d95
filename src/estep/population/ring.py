"""Replay on the device: the arrays and the rules of `estep.data.replay.Replay`, as pure functions for one seed.

Row r of environment e is row r E + e of the arrays, as on the host, so that a checkpoint has one layout for both.
`jax.vmap` gives every seed a ring of its own, and the arrays are changed in place inside a compiled loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from estep.core.types import Key, Memo, Transition
from estep.data.layout import Row, Sizes, sizes
from estep.data.replay import NO_STEP


class Layout(NamedTuple):
    """What the arrays of a ring hold. It is static: equal layouts share compiled programs."""

    num_envs: int
    size: Sizes
    factors: tuple[int, ...]
    memo: tuple[tuple[str, int], ...]
    """Names and widths of further columns, in their order."""
    dtype: str
    """Type in which observations are stored."""

    @property
    def rows(self) -> int:
        """Rows of all environments together."""
        return self.size.rows_per_env * self.num_envs


class Ring(NamedTuple):
    """The replay of one seed, with E environments."""

    obs: Array
    """[rows, o]: each observation once, also the final one of an episode."""
    columns: Float[Array, "rows c"]
    """Action, reward, discount, last, memo."""
    steps: Int[Array, "e n"]
    """The rows that hold steps, oldest first, as a second ring."""
    head: Int[Array, " e"]
    """The row to write next. Positions only grow."""
    first: Int[Array, " e"]
    """The oldest entry of `steps`."""
    end: Int[Array, " e"]
    """The entry after the newest."""
    open: Bool[Array, " e"]
    """Whether the row at the head holds the next observation of the newest step."""


class Stored(NamedTuple):
    """One step of E environments, as `add` takes it."""

    obs: Float[Array, "e o"]
    action: Float[Array, "e a"]
    """The points u."""
    reward: Float[Array, " e"]
    terminated: Bool[Array, " e"]
    truncated: Bool[Array, " e"]
    next_obs: Float[Array, "e o"]
    valid: Bool[Array, " e"]
    """Where it is False nothing is stored, and the episode ends as truncated."""


def layout(capacity: int, num_envs: int, row: Row) -> Layout:
    """The layout of a replay of so many steps over all environments of a seed. Raises UsageError for too few."""
    memo = tuple(row.memo.items())
    return Layout(num_envs, sizes(capacity, num_envs, row), row.factors, memo, np.dtype(row.dtype).name)


def bytes_of(form: Layout) -> int:
    """Bytes of the arrays of one seed."""
    width = np.dtype(form.dtype).itemsize * form.size.observation + 4 * form.size.columns
    return form.rows * width + form.num_envs * (4 * form.size.steps_per_env + 13)


def empty(form: Layout) -> Ring:
    """A ring without steps."""
    e, size = form.num_envs, form.size
    obs = jnp.zeros((form.rows, size.observation), form.dtype)
    columns, steps = jnp.zeros((form.rows, size.columns)), jnp.zeros((e, size.steps_per_env), jnp.int32)
    head, first, end = (jnp.zeros(e, jnp.int32) for _ in range(3))
    return Ring(obs, columns, steps, head, first, end, jnp.zeros(e, bool))


def add(form: Layout, ring: Ring, step: Stored, memo: Memo) -> Ring:
    """Store one step of each environment, and end the episode of those whose step is not valid.

    Args:
        form, ring: the ring.
        step: the step.
        memo: further columns [e, width] by name.
    """
    ring = cut(form, ring, ~step.valid)
    e, share, none = jnp.arange(form.num_envs), form.size.steps_per_env, form.rows
    row, after = _row(form, ring.head), _row(form, ring.head + 1)
    stored_one = step.valid.astype(jnp.int32)
    first = ring.first + (step.valid & (ring.end - ring.first == share)).astype(jnp.int32)
    for _ in range(2):  # rows are reserved in order, so only the two oldest steps can be in these two rows
        oldest = ring.steps[e, first % share]
        in_the_way = step.valid & (first < ring.end) & ((oldest == row) | (oldest == after))
        first = first + in_the_way.astype(jnp.int32)
    ends = step.terminated | step.truncated
    flags = [step.reward, 1.0 - step.terminated.astype(jnp.float32), ends.astype(jnp.float32)]
    stored = _to_index(step.action, form.factors) if form.factors else step.action
    columns = jnp.concatenate([stored, jnp.stack(flags, -1), *(memo[name] for name, _ in form.memo)], -1)
    here, there = jnp.where(step.valid, row, none), jnp.where(step.valid, after, none)
    obs = ring.obs.at[here].set(step.obs.astype(form.dtype), mode="drop")
    obs = obs.at[there].set(step.next_obs.astype(form.dtype), mode="drop")
    ring = ring._replace(
        obs=obs,
        columns=ring.columns.at[here].set(columns, mode="drop"),
        steps=ring.steps.at[e, jnp.where(step.valid, ring.end % share, share)].set(row, mode="drop"),
        head=ring.head + stored_one,
        first=first,
        end=ring.end + stored_one,
        open=ring.open | step.valid,
    )
    return _close(form, ring, step.valid & ends)


def cut(form: Layout, ring: Ring, which: Bool[Array, " e"]) -> Ring:
    """End the unfinished episodes of these environments as truncated at their last stored step, if there is one."""
    which = which & ring.open
    newest = jnp.where(which, _row(form, ring.head - 1), form.rows)
    columns = ring.columns.at[newest, form.size.action + 2].set(1.0, mode="drop")
    return _close(form, ring._replace(columns=columns), which)


def _close(form: Layout, ring: Ring, which: Bool[Array, " e"]) -> Ring:
    """Mark the row at the head as an episode's final observation and move the head on."""
    columns = _no_step(form, ring.columns, jnp.where(which, _row(form, ring.head), form.rows))
    return ring._replace(columns=columns, head=ring.head + which.astype(jnp.int32), open=ring.open & ~which)


def _no_step(form: Layout, columns: Array, rows: Int[Array, " n"]) -> Array:
    """The columns with rows marked as no steps. Their observations stay, which may be those after the step before."""
    mark = jnp.zeros(form.size.columns).at[form.size.action + 2].set(NO_STEP)
    return columns.at[rows].set(jnp.broadcast_to(mark, (rows.shape[0], form.size.columns)), mode="drop")


def drop(form: Layout, ring: Ring, row: Int[Array, ""]) -> Ring:
    """Take the step in a row out, if it is still there. The step before it ends its episode as truncated, and the step
    after it begins one."""
    env, share = row % form.num_envs, form.size.steps_per_env
    order = jnp.arange(share)
    entries = (ring.first[env] + order) % share
    steps, count = ring.steps[env, entries], ring.end[env] - ring.first[env]
    found = (order < count) & (steps == row)
    there, number = found.any(), found.argmax()
    ring = cut(form, ring, (jnp.arange(form.num_envs) == env) & there & (number == count - 1))
    before = jnp.where(there & (number > 0), steps[number - 1], form.rows)
    columns = ring.columns.at[before, form.size.action + 2].set(1.0, mode="drop")
    columns = _no_step(form, columns, jnp.where(there, row, form.rows)[None])
    after = jnp.where(order < number, steps, jnp.roll(steps, -1))
    return ring._replace(
        columns=columns,
        steps=ring.steps.at[env, entries].set(jnp.where(there, after, steps)),
        end=ring.end.at[env].add(-there.astype(jnp.int32)),
    )


def _row(form: Layout, position: Int[Array, " e"]) -> Int[Array, " e"]:
    return position % form.size.rows_per_env * form.num_envs + jnp.arange(form.num_envs)


def places(form: Layout, ring: Ring, length: int) -> Int[Array, ""]:
    """In how many places a sequence of steps of one environment starts."""
    return jnp.maximum(ring.end - ring.first - (length - 1), 0).sum()


def sequences(form: Layout, ring: Ring, place: Int[Array, " n"], length: int) -> Int[Array, "n t"]:
    """The rows of the sequences that start in these places, which are numbered environment by environment.

    Args:
        form, ring: the ring.
        place: numbers below `places`.
        length: steps in a sequence.
    """
    count = jnp.maximum(ring.end - ring.first - (length - 1), 0)
    ends = jnp.cumsum(count)
    env = jnp.searchsorted(ends, place, side="right")
    entry = ring.first[env] + place - (ends[env] - count[env])
    entries = entry[:, None] + jnp.arange(length)[None]
    return ring.steps[env[:, None], entries % form.size.steps_per_env]


def draw(form: Layout, ring: Ring, key: Key, count: int, length: int) -> Int[Array, "n t"]:
    """Rows of sequences, sampled uniformly with replacement from all places where one starts.

    Args:
        form, ring: the ring, with at least one place.
        key: a random key.
        count: how many sequences.
        length: steps in a sequence, which may contain the end of an episode.
    """
    total = jnp.maximum(places(form, ring, length), 1)
    return sequences(form, ring, jax.random.randint(key, (count,), 0, total), length)


def newest(
    form: Layout, ring: Ring, keys: Key, shape: tuple[int, int], count: int, length: int
) -> Int[Array, "epochs n t"]:
    """The newest steps of each environment as whole sequences, in a new random order for each epoch.

    Args:
        form, ring: the ring.
        keys: a random key for each epoch.
        shape: epochs, and sequences in one of them. If there are fewer, an epoch begins again with the first.
        count: how many steps of each environment.
        length: steps in a sequence.
    """
    runs = jnp.minimum(count, ring.end - ring.first) // length
    most = count // length
    start = (ring.end - runs * length)[:, None] + jnp.arange(most)[None] * length
    entries = (start[..., None] + jnp.arange(length)[None, None]) % form.size.steps_per_env
    env = jnp.arange(form.num_envs)[:, None, None]
    rows = ring.steps[env, entries].reshape(-1, length)
    there = (jnp.arange(most)[None] < runs[:, None]).reshape(-1)
    held = jnp.maximum(there.sum(), 1)

    def order(key: Key) -> Int[Array, " n"]:
        by = jnp.where(there, jax.random.uniform(key, there.shape), 2.0)
        return jnp.argsort(by)[jnp.arange(shape[1]) % held]

    return rows[jax.vmap(order)(keys)]


def read(form: Layout, ring: Ring, rows: Int[Array, "*n"]) -> Transition:
    """Copies of the steps in these rows."""
    a = form.size.action
    columns = ring.columns[rows]
    memo, at = {}, a + 3
    for name, width in form.memo:
        memo[name], at = columns[..., at : at + width], at + width
    return Transition(
        obs=ring.obs[rows].astype(jnp.float32),
        action=_to_one_hot(columns[..., :a], form.factors) if form.factors else columns[..., :a],
        reward=columns[..., a],
        discount=columns[..., a + 1],
        next_obs=ring.obs[(rows + form.num_envs) % form.rows].astype(jnp.float32),
        last=columns[..., a + 2],
        memo=memo or (),
    )


def write(form: Layout, ring: Ring, rows: Int[Array, "*n"], memo: Memo, allowed: Bool[Array, "..."]) -> Ring:
    """Replace the memo of these steps, where it is allowed. If a row occurs twice, the last one counts.

    A device may write the rows of a scatter in any order, so the others are left out.

    Args:
        form, ring: the ring.
        rows: rows of steps.
        memo: the new columns [*n, width] by name.
        allowed: False leaves these rows as they are. Its shape is broadcast to that of `rows`.
    """
    flat = jnp.where(allowed, rows, form.rows).reshape(-1)
    order = jnp.argsort(flat, stable=True)
    ordered = flat[order]
    last = jnp.concatenate([ordered[1:] != ordered[:-1], jnp.ones(1, bool)])
    new = jnp.concatenate([memo[name].reshape(flat.shape[0], -1) for name, _ in form.memo], -1)[order]
    target = jnp.where(last, ordered, form.rows)
    return ring._replace(columns=ring.columns.at[target, form.size.action + 3 :].set(new, mode="drop"))


def _to_index(action: Float[Array, "e a"], factors: tuple[int, ...]) -> Float[Array, "e k"]:
    """The index of each choice in one-hot vectors side by side, as whole numbers."""
    splits = np.cumsum(factors)[:-1].tolist()
    return jnp.stack([part.argmax(-1) for part in jnp.split(action, splits, -1)], -1).astype(jnp.float32)


def _to_one_hot(index: Float[Array, "*n k"], factors: tuple[int, ...]) -> Float[Array, "*n a"]:
    parts = [jax.nn.one_hot(index[..., i].astype(jnp.int32), size) for i, size in enumerate(factors)]
    return jnp.concatenate(parts, -1)


def counters(form: Layout, arrays: Mapping[str, Any]) -> dict[str, list[int]]:
    """The counters of a ring of one seed as `Replay.counters` has them.

    Args:
        form: the layout.
        arrays: `steps`, `head`, `first`, `end` and `open` as arrays of the host.
    """
    head, first, end = (arrays[name].astype(np.int64) for name in ("head", "first", "end"))
    e, rows = np.arange(form.num_envs), form.size.rows_per_env
    lap = arrays["steps"][e, first % form.size.steps_per_env].astype(np.int64) // form.num_envs
    tail = np.where(first == end, head, head - 1 - (head - 1 - lap) % rows)
    return {"head": head.tolist(), "open": arrays["open"].astype(int).tolist(), "tail": tail.tolist()}
