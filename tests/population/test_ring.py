"""Replay on the device against the replay of the host: the same additions, evictions and cuts give the same rows."""

import functools as ft

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from estep.core.keys import make_key
from estep.data.layout import Row
from estep.data.replay import Replay
from estep.population import ring
from estep.population.ring import Stored

ADD = jax.jit(ring.add, static_argnums=0)
CUT = jax.jit(ring.cut, static_argnums=0)
DROP = jax.jit(ring.drop, static_argnums=0)
READ = jax.jit(ring.read, static_argnums=0)
WRITE = jax.jit(ring.write, static_argnums=0)
DRAW = jax.jit(ring.draw, static_argnums=(0, 3, 4))
NEWEST = jax.jit(ring.newest, static_argnums=(0, 3, 4, 5))
SEQUENCES = jax.jit(ring.sequences, static_argnums=(0, 3))
FORMS = {
    "numbers": (12, 2, Row(2, numbers=2, memo={"lam": 3, "flag": 1})),
    "choices": (7, 1, Row(1, choices=(2, 3), memo={"lam": 2})),
}
EVENTS = st.lists(
    st.tuples(st.sampled_from("sttu x".replace(" ", "s")), st.integers(0, 2**16)), min_size=1, max_size=40
)


@ft.cache
def form_of(name):
    capacity, envs, row = FORMS[name]
    return ring.layout(capacity, envs, row), row


def step_of(row, envs, generator, kinds):
    """A random step of each environment: s goes on, t terminates, u is truncated, x is not valid."""
    o, a = row.observation, sum(row.factors) or row.numbers
    obs, next_obs = generator.standard_normal((2, envs, o)).astype(np.float32)
    action = generator.standard_normal((envs, a)).astype(np.float32)
    if row.factors:
        picks = [np.eye(n, dtype=np.float32)[generator.integers(n, size=envs)] for n in row.factors]
        action = np.concatenate(picks, 1)
    kinds = np.array(kinds)
    flags = kinds == "t", kinds == "u"
    memo = {name: generator.standard_normal((envs, w)).astype(np.float32) for name, w in row.memo.items()}
    reward = generator.standard_normal(envs).astype(np.float32)
    return Stored(obs, action, reward, *flags, next_obs, kinds != "x"), memo


def feed(name, events):
    form, row = form_of(name)
    host, held = Replay(form.size.steps_per_env * form.num_envs, form.num_envs, row), ring.empty(form)
    for i, (kind, seed) in enumerate(events):
        generator = np.random.default_rng(seed)
        kinds = [kind if env == i % form.num_envs else generator.choice(list("sstux")) for env in range(form.num_envs)]
        step, memo = step_of(row, form.num_envs, generator, kinds)
        host.add(*step, memo or None)
        held = ADD(form, held, step, memo)
        if seed % 7 == 0:
            env = seed % form.num_envs
            host.cut(env)
            held = CUT(form, held, jnp.arange(form.num_envs) == env)
    return form, host, held


def listed(form, held):
    """The rows of the stored steps of each environment, oldest first."""
    share, small = form.size.steps_per_env, jax.device_get(held)
    return [[small.steps[e, k % share] for k in range(small.first[e], small.end[e])] for e in range(form.num_envs)]


def host_rows(host):
    share = host._size.steps_per_env
    return [[host._steps[e, k % share] for k in range(host._first[e], host._end[e])] for e in range(host.num_envs)]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(FORMS)), EVENTS, st.lists(st.integers(0, 40), min_size=1, max_size=4))
def test_steps_are_taken_out_as_on_the_host(name, events, chosen):
    form, host, held = feed(name, events)
    for number in chosen:
        stored = [row for rows in host_rows(host) for row in rows]
        row = int(stored[number % len(stored)]) if stored and number % 5 else number % form.rows  # or no step at all
        host.drop(np.array([row]))
        held = DROP(form, held, jnp.int32(row))
        assert listed(form, held) == host_rows(host)
        marks = np.asarray(held.columns)[:, form.size.action + 2]
        there = [row for rows in host_rows(host) for row in rows]
        np.testing.assert_array_equal(marks[there], host._columns[there, form.size.action + 2])
    step, memo = step_of(form_of(name)[1], form.num_envs, np.random.default_rng(0), ["s"] * form.num_envs)
    host.add(*step, memo or None)
    held = ADD(form, held, step, memo)
    assert listed(form, held) == host_rows(host)


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(sorted(FORMS)), events=EVENTS)
def test_the_replay_of_the_host_is_the_oracle(name, events):
    form, host, held = feed(name, events)
    rows = host_rows(host)
    assert listed(form, held) == rows
    assert ring.counters(form, jax.device_get(held)._asdict()) == host.counters()
    flat = np.array([row for env in rows for row in env], np.int64)
    for mine, theirs in zip(
        jax.tree.leaves(READ(form, held, jnp.asarray(np.resize(flat, 64), jnp.int32)) if len(flat) else ()),
        jax.tree.leaves(host.read(np.resize(flat, 64)) if len(flat) else ()),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, theirs)


@settings(max_examples=10, deadline=None)
@given(name=st.sampled_from(sorted(FORMS)), events=EVENTS)
def test_every_place_where_a_sequence_starts_has_one_number(name, events):
    length = 3
    form, host, held = feed(name, events)
    total = int(ring.places(form, held, length))
    runs = [tuple(rows[i : i + length]) for rows in host_rows(host) for i in range(len(rows) - length + 1)]
    assert total == len(runs)
    found = SEQUENCES(form, held, jnp.arange(64) % max(total, 1), length)
    assert [tuple(row) for row in np.asarray(found)[:total].tolist()] == runs


def test_draws_are_uniform_over_places():
    form, _, held = feed("numbers", [("s", i) for i in range(1, 12)])
    total = int(ring.places(form, held, 2))
    rows = np.asarray(DRAW(form, held, make_key(0), 20_000, 2))
    counts = np.unique(rows[:, 0], return_counts=True)[1]
    assert len(counts) == total > 4
    assert np.square(counts - 20_000 / total).sum() / (20_000 / total) < 3 * total  # a chi-square of total - 1


def test_of_a_row_that_is_written_twice_the_last_counts():
    form, host, held = feed("numbers", [("s", i) for i in range(1, 7)])
    rows = np.array(host_rows(host)[0])[[2, 0, 2, 4, 0, 2]]
    memo = {"lam": np.arange(18, dtype=np.float32).reshape(6, 3), "flag": np.arange(6, dtype=np.float32)[:, None]}
    before = READ(form, held, jnp.asarray(rows))
    kept = WRITE(form, held, jnp.asarray(rows), memo, jnp.asarray(False))
    assert (READ(form, kept, jnp.asarray(rows)).memo["lam"] == before.memo["lam"]).all()
    held = WRITE(form, held, jnp.asarray(rows), memo, jnp.asarray(True))
    host.write(rows, memo)
    found, wanted = READ(form, held, jnp.asarray(rows)), host.read(rows)
    assert found.memo["flag"][:, 0].tolist() == [5, 4, 5, 3, 4, 5]
    for name in memo:
        np.testing.assert_array_equal(found.memo[name], wanted.memo[name])
    np.testing.assert_array_equal(found.obs, wanted.obs)


def test_the_newest_steps_are_the_sequences_of_a_rollout_in_a_new_order():
    form, host, held = feed("numbers", [("s", 3 * i + 1) for i in range(1, 12)])
    keys = jax.random.split(make_key(1), 3)
    rows = np.asarray(NEWEST(form, held, keys, (3, 6), 4, 2))
    wanted = sorted(map(tuple, host.newest(4, 2).tolist()))
    for epoch in rows:
        found = list(map(tuple, epoch.tolist()))
        assert sorted(found[: len(wanted)]) == wanted
        assert found == [found[i % len(wanted)] for i in range(6)]
