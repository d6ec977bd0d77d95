import math

import numpy as np
import pytest
import scipy.stats

from estep.core.types import to_one_hot
from estep.data import replay as module
from estep.data.layout import Row, bytes_needed
from estep.data.replay import NO_STEP, Replay
from estep.errors import RejectedInput, UsageError


class Counters:
    """E counter environments: obs = [global step, episode, env]; episodes of 1 to 20 steps end in every way."""

    def __init__(self, num_envs, seed, longest=20, invalid=0.05):
        self.random = np.random.default_rng(seed)
        self.n, self.longest, self.invalid = num_envs, longest, invalid
        self.time = np.zeros(num_envs, int)
        self.episode = np.zeros(num_envs, int)
        self.left = self.random.integers(1, longest + 1, num_envs)
        self.told: list[list[tuple]] = [[] for _ in range(num_envs)]  # what should be stored, oldest first

    def obs(self):
        return np.stack([self.time, self.episode, np.arange(self.n)], -1).astype(np.float32)

    def feed(self, replay, memo=None):
        obs = self.obs()
        self.left -= 1
        over = self.left == 0
        terminated = over & (self.random.random(self.n) < 0.5)
        valid = self.random.random(self.n) >= self.invalid
        self.time += valid
        next_obs = self.obs()
        for env in range(self.n):
            told = self.told[env]
            if valid[env]:
                told.append((obs[env, 0], obs[env, 1], bool(terminated[env]), bool(over[env])))
            elif told and told[-1][1] == self.episode[env]:
                told[-1] = (*told[-1][:3], True)
            if over[env] or not valid[env]:
                self.time[env] += 100  # a reset: nothing may take the next episode for the successor
                self.episode[env] += 1
                self.left[env] = self.random.integers(1, self.longest + 1)
        action = np.stack([obs[:, 0], -obs[:, 0]], -1)
        extra = {} if memo is None else {"memo": memo(obs)}
        flags = terminated & valid, over & ~terminated & valid
        replay.add(obs, action, obs[:, 0] / 2, *flags, next_obs, valid, **extra)


def everything(replay):
    """All stored steps per environment, oldest first, from a gather of each list."""
    share = replay._size.steps_per_env
    rows = [
        [replay._steps[env, k % share] for k in range(replay._first[env], replay._end[env])]
        for env in range(replay.num_envs)
    ]
    return [replay.read(np.array(one, np.int64)) for one in rows]


def look(batch):
    assert (batch.next_obs[..., 0] == batch.obs[..., 0] + 1).all()
    assert (batch.next_obs[..., 1:] == batch.obs[..., 1:]).all()
    assert (batch.action[..., 0] == batch.obs[..., 0]).all()
    assert (batch.reward == batch.obs[..., 0] / 2).all()
    assert np.isin(batch.last, (0, 1)).all()
    assert (batch.last[batch.discount == 0] == 1).all()


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("capacity", [3, 4, 7, 50, 200, 333])
@pytest.mark.parametrize("longest", [1, 20])
def test_counter(num_envs, capacity, longest):
    source, replay = Counters(num_envs, capacity, longest), Replay(capacity, num_envs, Row(3, numbers=2))
    share = capacity // num_envs
    for i in range(900):
        source.feed(replay)
        assert len(replay) <= capacity
        if i % 37 and i > 20:
            continue
        if len(replay):
            look(replay.sample(0, i, (4, 5)))
        for env, stored in enumerate(everything(replay)):
            look(stored)
            told = source.told[env]
            assert (stored.obs[:, 2] == env).all()
            mine = list(zip(stored.obs[:, 0], stored.obs[:, 1], stored.discount == 0, stored.last == 1, strict=True))
            assert mine == told[len(told) - len(mine) :]  # the newest, without a gap
            rows = len(mine) + sum(one[3] for one in mine)
            full = len(told) > len(mine)
            assert not full or len(mine) == share or rows >= replay._size.rows_per_env - 3  # as many as the rows hold


def test_long_episodes_fill_the_capacity():
    source, replay = Counters(2, 0, longest=200, invalid=0.0), Replay(1000, 2, Row(3, numbers=2))
    for _ in range(3000):
        source.feed(replay)
    assert len(replay) == 1000


def test_invalid_steps_cut_and_are_not_stored():
    one, zero, yes, no = np.ones((1, 1), np.float32), np.zeros(1, np.float32), np.array([True]), np.array([False])
    replay = Replay(10, 1, Row(1, numbers=1))
    replay.cut(0)
    replay.add(one, one, zero, no, no, 2 * one, no)
    assert len(replay) == 0
    replay.add(one, one, zero, no, no, 2 * one, yes)
    replay.add(2 * one, one, zero, no, no, 9 * one, no)
    replay.add(2 * one, one, zero, no, no, 9 * one, no)
    replay.cut(0)
    replay.add(5 * one, one, zero, yes, no, 6 * one, yes)
    stored = everything(replay)[0]
    assert stored.obs[:, 0].tolist() == [1, 5]
    assert stored.next_obs[:, 0].tolist() == [2, 6]
    assert stored.last.tolist() == [1, 1]
    assert stored.discount.tolist() == [1, 0]


def test_sampling_is_uniform_over_steps():
    source, replay = Counters(3, 1, invalid=0.1), Replay(90, 3, Row(3, numbers=2))
    for _ in range(400):
        source.feed(replay)
    replay_steps = len(replay)
    batch = replay.sample(11, 0, (40_000,))
    _, counts = np.unique(batch.obs, axis=0, return_counts=True)
    assert len(counts) == replay_steps
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_unequal_environments_are_drawn_by_their_steps():
    one, replay = np.zeros((2, 1), np.float32), Replay(1000, 2, Row(1, numbers=1))
    obs = np.array([[0], [1]], np.float32)
    none = np.zeros(2, bool)
    for i in range(400):
        replay.add(obs, one, one[:, 0], none, none, obs, np.array([True, i % 4 == 0]))
    assert len(replay) == 500
    drawn = replay.sample(0, 0, (20_000,)).obs.mean()
    assert abs(drawn - 0.2) < 4 * math.sqrt(0.16 / 20_000)


def test_draws_are_a_function_of_seed_and_counter():
    source, replay = Counters(1, 1), Replay(500, 1, Row(3, numbers=2))
    for _ in range(400):
        source.feed(replay)
    a, b, c, d = (replay.sample(*key, (64,)).obs for key in ((1, 2), (1, 2), (1, 3), (2, 2)))
    assert (a == b).all()
    assert (a != c).any()
    assert (a != d).any()
    assert replay.sample(-1, 2**70, (2, 3)).obs.shape == (2, 3, 3)


def test_samples_are_copies():
    source, replay = Counters(1, 1), Replay(50, 1, Row(3, numbers=2))
    for _ in range(60):
        source.feed(replay)
    before = [array.copy() for array in (replay._obs, replay._columns)]
    batch = replay.sample(0, 0, (32,))
    for array in (*batch[:6], replay.latest(5)):
        assert not any(np.shares_memory(array, own) for own in (replay._obs, replay._columns))
        array[...] = -7
    assert all((a == b).all() for a, b in zip(before, (replay._obs, replay._columns), strict=True))


def test_latest():
    source, replay = Counters(1, 1), Replay(50, 1, Row(3, numbers=2))
    assert replay.latest(4).shape == (0, 3)
    for _ in range(130):
        source.feed(replay)
    assert replay.latest(7)[:, 0].tolist() == [told[0] for told in source.told[0][-7:]]
    assert replay.latest(500).shape == (len(replay), 3)
    both, three = Counters(3, 1, invalid=0.0), Replay(60, 3, Row(3, numbers=2))
    for _ in range(30):
        both.feed(three)
    rows = three.latest(7)
    assert rows.shape == (7, 3)
    assert sorted(rows[:, 2].tolist()) == [0, 0, 0, 1, 1, 2, 2]
    newest = {told[-1][0] for told in both.told}
    assert newest <= set(rows[:, 0].tolist())


def test_memo():
    source, replay = Counters(2, 1), Replay(80, 2, Row(3, memo={"noise": 2, "log_prob": 1}, numbers=2))
    for _ in range(100):
        source.feed(replay, lambda obs: {"noise": obs[:, :2], "log_prob": -obs[:, :1]})
    batch = replay.sample(0, 0, (3, 4))
    assert (batch.memo["noise"] == batch.obs[..., :2]).all()
    assert batch.memo["log_prob"].shape == (3, 4, 1)
    assert (batch.memo["log_prob"] == -batch.obs[..., :1]).all()


def copy_of(replay, target):
    for i in range(replay.chunks):
        target.load_chunk(i, replay.chunk(i))
    target.load_counters(replay.counters())
    return target


@pytest.mark.parametrize("steps", [0, 1, 17, 60, 61, 62, 500])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_checkpoint_round_trip(monkeypatch, steps, num_envs):
    monkeypatch.setattr(module, "CHUNK", 16)
    source, replay = Counters(num_envs, 2), Replay(60 * num_envs, num_envs, Row(3, numbers=2))
    for _ in range(steps):
        source.feed(replay)
    again = copy_of(replay, Replay(60 * num_envs, num_envs, Row(3, numbers=2)))
    assert again.counters() == replay.counters()
    assert len(again) == len(replay)
    assert again._obs.tobytes() == replay._obs.tobytes()
    assert again._columns.tobytes() == replay._columns.tobytes()
    for _ in range(200):
        source.feed(replay)
    other = Counters(num_envs, 2)
    for _ in range(steps):
        other.feed(Replay(60 * num_envs, num_envs, Row(3, numbers=2)))
    for _ in range(200):
        other.feed(again)
    assert again.counters() == replay.counters()
    for a, b in zip(replay.sample(5, 5, (64,))[:6], again.sample(5, 5, (64,))[:6], strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("every", [1, 7])
def test_only_changed_chunks_are_dirty(monkeypatch, every):
    monkeypatch.setattr(module, "CHUNK", 16)
    source, replay = Counters(1, 2), Replay(60, 1, Row(3, numbers=2))
    assert replay.chunks == 0
    saved: dict[int, dict[str, np.ndarray]] = {}
    for i in range(300):
        source.feed(replay)
        if i % every == 0:  # save what is dirty and nothing else
            ids = set(replay.dirty)
            assert len(ids) <= 3
            saved |= {k: replay.chunk(k) for k in ids}
            replay.clean(ids)
            assert not replay.dirty
            assert set(saved) == set(range(replay.chunks))
            again = Replay(60, 1, Row(3, numbers=2))
            for k, arrays in saved.items():
                again.load_chunk(k, arrays)
            again.load_counters(replay.counters())
            assert not again.dirty
            assert again._obs.tobytes() == replay._obs.tobytes()
            assert again._columns.tobytes() == replay._columns.tobytes()


def test_malformed_checkpoints_are_rejected():
    source, replay = Counters(1, 2), Replay(60, 1, Row(3, numbers=2))
    for _ in range(100):
        source.feed(replay)
    chunk, counters = replay.chunk(0), replay.counters()
    poisoned = chunk["obs"].copy()
    poisoned[3, 1] = np.nan
    for broken in (
        {},
        {**chunk, "obs": chunk["obs"][:-1]},
        {**chunk, "columns": chunk["columns"].astype(np.float64)},
        {**chunk, "obs": poisoned},
    ):
        with pytest.raises(RejectedInput):
            Replay(60, 1, Row(3, numbers=2)).load_chunk(0, broken)
    with pytest.raises(RejectedInput):
        Replay(60, 1, Row(3, numbers=2)).load_chunk(1, chunk)
    for broken in (
        {},
        {**counters, "head": [1, 2]},
        {**counters, "tail": [-1]},
        {**counters, "head": [10**6]},
        {**counters, "open": [7]},
        {"head": ["x"], "open": [0], "tail": [0]},
    ):
        target = Replay(60, 1, Row(3, numbers=2))
        target.load_chunk(0, chunk)
        with pytest.raises(RejectedInput):
            target.load_counters(broken)


def test_bytes_needed_is_what_is_allocated():
    for capacity, num_envs, memo in ((1000, 1, {}), (1001, 3, {"x": 4}), (50_000, 8, {})):
        replay = Replay(capacity, num_envs, Row(17, memo=memo, numbers=6))
        assert replay.nbytes == bytes_needed(capacity, num_envs, 17, memo=memo, numbers=6)
    assert bytes_needed(1_000_000, 1, 17, numbers=6) < 1.02 * 1_000_000 * (4 * (17 + 6 + 3) + 8)


def test_refusals():
    with pytest.raises(UsageError, match="replay_size at least 4"):
        Replay(3, 4, Row(1, numbers=1))
    with pytest.raises(UsageError, match="too few"):
        Replay(3, 1, Row(1, numbers=1)).sample(0, 0, (2,))
    flags = np.array([True])
    wide = np.zeros((1, 2), np.float32)
    with pytest.raises(ValueError, match="shapes"):
        Replay(3, 1, Row(1, numbers=1)).add(wide, wide, wide[:, 0], ~flags, ~flags, wide, flags)


def test_a_final_observation_is_never_a_step():
    source, replay = Counters(2, 5, longest=3), Replay(100, 2, Row(3, numbers=2))
    for _ in range(500):
        source.feed(replay)
    assert (replay._columns[:, 4] == NO_STEP).any()
    assert (replay.sample(0, 0, (5000,)).last != NO_STEP).all()


def test_sequences_are_steps_in_a_row_and_places_are_equally_likely():
    source, replay = Counters(2, 5, longest=7), Replay(60, 2, Row(3, numbers=2))
    for _ in range(300):
        source.feed(replay)
    length = 4
    batch = replay.read(replay.draw(3, 0, (20_000,), length))
    look(batch)
    assert batch.obs.shape == (20_000, length, 3)
    assert (batch.obs[:, :, 2] == batch.obs[:, :1, 2]).all()  # one environment
    stored = [one.obs[:, 0].tolist() for one in everything(replay)]
    places = [tuple(steps[i : i + length]) for steps in stored for i in range(len(steps) - length + 1)]
    drawn, counts = np.unique(batch.obs[:, :, 0], axis=0, return_counts=True)
    assert sorted(map(tuple, drawn.tolist())) == sorted(set(places))
    _, multiplicity = np.unique(np.array(places), axis=0, return_counts=True)
    assert scipy.stats.chisquare(counts, multiplicity * 20_000 / len(places)).pvalue > 1e-3
    with pytest.raises(UsageError, match="too few"):
        replay.draw(0, 0, (1,), 31)


def test_the_newest_runs_end_with_the_newest_step():
    source, replay = Counters(2, 5, longest=7, invalid=0.0), Replay(60, 2, Row(3, numbers=2))
    for _ in range(100):
        source.feed(replay)
    found = replay.read(replay.newest(10, 4))
    assert found.obs.shape == (4, 4, 3)
    for env, mine in enumerate(found.obs.reshape(2, 8, 3)):
        assert mine[:, 0].tolist() == [told[0] for told in source.told[env][-8:]]
    assert replay.newest(1000, 20).shape == (2, 20)


def test_what_is_remembered_can_be_changed_and_is_saved():
    source, replay = Counters(1, 5), Replay(50, 1, Row(3, memo={"lam": 2, "kept": 1}, numbers=2))
    for _ in range(80):
        source.feed(replay, lambda obs: {"lam": np.zeros((1, 2), np.float32), "kept": np.zeros((1, 1), np.float32)})
    replay.clean(set(range(replay.chunks)))
    rows = replay.draw(0, 0, (2, 3))
    told = {"lam": np.stack([rows, -rows], -1).astype(np.float32), "kept": np.ones((2, 3, 1), np.float32)}
    replay.write(rows, told)
    again = replay.read(rows)
    look(again)
    assert (again.memo["lam"] == told["lam"]).all()
    assert (again.memo["kept"] == 1).all()
    assert replay.dirty == {0}
    assert sum(float(one.memo["kept"].sum()) for one in everything(replay)) == len(np.unique(rows))


def filled(choices, steps=40, **options):
    """A replay of random choices, with the one-hot vectors that were added."""
    factors = (choices,) if isinstance(choices, int) else choices
    random, replay = np.random.default_rng(0), Replay(60, 1, Row(2, choices, **options))
    index = random.integers(factors, size=(steps, 1, len(factors))).astype(np.float32)
    actions, flags = to_one_hot(index, factors), np.array([False])
    obs = random.integers(0, 256, (steps + 1, 1, 2)).astype(np.float32)
    for i in range(steps):
        ends = np.array([i % 7 == 6])
        replay.add(obs[i], actions[i], np.zeros(1, np.float32), ends, flags, obs[i + 1], ~flags)
    return replay, obs[:-1, 0], actions[:, 0]


@pytest.mark.parametrize("choices", [2, 20_000, (2, 3), (5,)])
def test_of_choices_an_index_is_stored_and_one_hot_vectors_are_read(choices):
    replay, obs, actions = filled(choices)
    read = replay.read(np.array([everything_in_order(replay)]))
    assert read.action.dtype == np.float32
    np.testing.assert_array_equal(read.action[0], actions)
    np.testing.assert_array_equal(read.obs[0], obs)
    assert replay.nbytes == bytes_needed(60, 1, 2, choices)
    assert bytes_needed(10**6, 1, 3, 20_000) == bytes_needed(10**6, 1, 3, 2) == bytes_needed(10**6, 1, 3, numbers=1)


def everything_in_order(replay):
    """The rows of all steps, oldest first."""
    return replay.newest(len(replay), 1)[:, 0]


def test_pixels_are_stored_as_bytes_and_read_as_numbers():
    replay, obs, _ = filled(2, dtype=np.uint8)
    found = replay.read(everything_in_order(replay))
    assert replay._obs.dtype == np.uint8
    assert (found.obs.dtype, found.next_obs.dtype, replay.latest(3).dtype) == (np.float32,) * 3
    np.testing.assert_array_equal(found.obs, obs)
    np.testing.assert_array_equal(replay.latest(3), obs[-3:])
    assert replay.nbytes == bytes_needed(60, 1, 2, 2, dtype=np.uint8)
    assert replay.chunk(0)["obs"].dtype == np.uint8


def test_chunks_of_an_earlier_layout_are_read():
    """0.1.0 stored one-hot vectors, and every observation as float32."""
    replay, _, actions = filled(3, dtype=np.uint8)
    chunk, hot = replay.chunk(0), np.zeros((len(replay.chunk(0)["obs"]), 3), np.float32)
    hot[everything_in_order(replay)] = actions
    old = {"obs": chunk["obs"].astype(np.float32), "columns": np.hstack([hot, chunk["columns"][:, 1:]])}
    again = Replay(60, 1, Row(2, 3, dtype=np.uint8))
    again.load_chunk(0, old)
    again.load_counters(replay.counters())
    assert again._obs.tobytes() == replay._obs.tobytes()
    assert again._columns.tobytes() == replay._columns.tobytes()
    for wrong in ({"obs": old["obs"] + 0.5}, {"columns": chunk["columns"] + 0.5}, {"columns": chunk["columns"] + 3}):
        with pytest.raises(RejectedInput):
            Replay(60, 1, Row(2, 3, dtype=np.uint8)).load_chunk(0, old | wrong)


def two_tasks(invalid=0.4):
    """Two environments of each of two tasks; those of the second lose most of their steps."""
    source, replay = Counters(4, 0, 6), Replay(400, 4, Row(3, numbers=2))
    source.invalid = np.array([0.0, 0.1, invalid, 0.9])
    for _ in range(60):
        source.feed(replay)
    return replay


@pytest.mark.parametrize("length", [0, 3])
def test_every_task_has_the_same_number_of_sequences(length):
    """Exactly, in every batch, and uniformly within: of unequal environments by their steps."""
    replay = two_tasks()
    drawn = replay.read(replay.draw(1, 2, (400, 10), length, strata=2))
    env = drawn.obs[..., 2] if not length else drawn.obs[..., 0, 2]
    np.testing.assert_array_equal((env >= 2).sum(1), np.full(400, 5))
    np.testing.assert_array_equal(env >= 2, np.tile([False, True], (400, 5)))
    counts, seen = replay.sequences(length, 2), np.bincount(env.astype(int).reshape(-1), minlength=4).reshape(2, 2)
    np.testing.assert_allclose(seen / seen.sum(1, keepdims=True), counts / counts.sum(1, keepdims=True), atol=0.05)
    assert (counts[1] < counts[0]).all()


def test_one_stratum_draws_as_before():
    replay = two_tasks()
    np.testing.assert_array_equal(replay.draw(1, 2, (3, 8), 2), replay.draw(1, 2, (3, 8), 2, strata=1))


def test_a_task_without_steps_is_no_batch():
    replay = Replay(40, 2, Row(3, numbers=2))
    one, no = np.zeros((2, 3), np.float32), np.zeros(2, bool)
    replay.add(one, np.zeros((2, 2), np.float32), np.zeros(2, np.float32), no, no, one, np.array([True, False]))
    assert replay.draw(0, 0, (4,)).shape == (4,)
    with pytest.raises(UsageError, match="too few steps"):
        replay.draw(0, 0, (4,), strata=2)


def test_the_newest_sequences_of_tasks_take_turns():
    replay = two_tasks()
    newest = replay.read(replay.newest(12, 3, strata=2)).obs[:, 0, 2]
    assert len(newest) > 2
    np.testing.assert_array_equal(newest >= 2, np.arange(len(newest)) % 2 == 1)
