"""R22: nothing bad leaves the environment as valid, wherever it comes from."""

import itertools

import gymnasium
import numpy as np
import pytest
from faulty import BOX, Counter, at

from estep.envs.gymnasium import make
from estep.envs.validation import BadTransitions, read_reward
from estep.errors import EnvironmentFailure

ACTION = np.zeros((1, 1), np.float32)
BAD_OBS = {
    "nan": np.array([0, np.nan, 0], np.float32),
    "inf": np.array([0, np.inf, 0], np.float32),
    "-inf": np.array([0, -np.inf, 0], np.float32),
    "1e39": np.array([0, 1e39, 0]),
    "1e300": np.array([0, 1e300, 0]),
    "bool": np.array([True, False, True]),
    "object": np.array([1, None, 2], object),
    "huge int": np.array([0, 10**400, 0], object),
    "string": np.array(["a", "b", "c"]),
    "complex": np.array([1j, 0, 0]),
    "short": np.zeros(2, np.float32),
    "long": np.zeros(4, np.float32),
    "matrix": np.zeros((3, 1), np.float32),
    "scalar": np.float32(1.0),
    "none": None,
    "list": [0.0, 0.0, 0.0],
    "masked": np.ma.masked_array(np.zeros(3, np.float32), [True, False, False]),
}
BAD_REWARD = {
    "nan": np.nan,
    "inf": np.inf,
    "-inf": -np.inf,
    "1e39": 1e39,
    "1e300": np.float64(1e300),
    "huge int": 10**400,
    "vector": np.zeros(1),
    "object": object(),
    "none": None,
    "string": "1",
    "complex": 1j,
    "masked": np.ma.masked,
}
CASES = [("obs", name) for name in BAD_OBS] + [("reward", name) for name in BAD_REWARD]


def faulty(kind, value, step, episode=None):
    env = make(lambda: Counter(5, fault=at(step, kind, value, episode)), timeout=0.0)
    return env


@pytest.mark.parametrize(("kind", "name"), CASES)
@pytest.mark.parametrize("step", [1, 3, 5])
def test_bad_step_is_cut_at_the_last_good_one(kind, name, step):
    env = faulty(kind, (BAD_OBS if kind == "obs" else BAD_REWARD)[name], step, episode=1)
    obs = env.reset()
    seen = []
    for _ in range(5 + step + 4):
        out = env.step(ACTION)
        assert np.isfinite(out.next_obs).all()
        assert np.isfinite(out.obs).all()
        assert np.isfinite(out.reward).all()
        if out.valid[0]:
            assert out.next_obs[0, 0] == obs[0, 0] + 1
        else:
            assert out.truncated[0]
            assert not out.terminated[0]
            assert out.next_obs.tobytes() == obs.tobytes()
            assert out.obs[0, 0] == 0
        seen.append(bool(out.valid[0]))
        obs = out.obs
    assert seen == [True] * (4 + step) + [False] + [True] * 4
    assert env.bad == 1
    lengths = [episode.length for episode in env.finished()]
    assert lengths == [5] + ([step - 1] if step > 1 else [])


@pytest.mark.parametrize("name", BAD_OBS)
def test_bad_reset_is_tried_again(name):
    env = faulty("obs", BAD_OBS[name], 0, episode=0)
    assert env.reset()[0, 1] == 1
    assert env.bad == 1
    always = faulty("obs", BAD_OBS[name], 0)
    with pytest.raises(EnvironmentFailure, match="10 bad transitions in a row"):
        always.reset()


def test_ten_in_a_row_end_the_run():
    env = faulty("reward", np.nan, None)
    env.reset()
    for _ in range(9):
        env.step(ACTION)
    with pytest.raises(EnvironmentFailure, match=r"in a row; in the last, the reward is nan") as error:
        env.step(ACTION)
    assert error.value.exit_code == 5


def test_more_than_ten_apart_end_the_run():
    env = faulty("reward", np.inf, 3)
    env.reset()
    for _ in range(30 + 2):
        env.step(ACTION)
    assert env.bad == 10
    with pytest.raises(EnvironmentFailure, match="11 bad transitions in the last 33"):
        env.step(ACTION)


def test_window_of_the_last_hundred_thousand():
    count = BadTransitions(1, "it")
    for block in range(300):  # one bad in 1,000: exactly 0.1 %, never above it
        for _ in range(999):
            count.good(0)
        count.bad(0, f"block {block}")
    assert len(count.counters()["recent"]) == 100
    count.good(0)
    with pytest.raises(EnvironmentFailure, match="101 bad transitions in the last 100000"):
        count.bad(0, "one more")


def test_rows_are_counted_for_each_environment():
    count = BadTransitions(2, "it")
    for _ in range(9):
        count.good(0)
        count.bad(1, "it is bad")
    with pytest.raises(EnvironmentFailure, match="in a row"):
        count.bad(1, "it is bad")


def test_good_rewards_of_every_kind():
    kinds = (1, 1.0, True, np.True_, np.float16(1), np.float64(1), np.int8(1), np.array(1.0), np.array(1, np.int64))
    assert [read_reward(value) for value in kinds] == [1.0] * len(kinds)
    assert read_reward(-3.4e38) == -3.4e38


@pytest.mark.parametrize("value", [(None, False), (False, np.zeros(2)), ("no", False), (0.0, False)])
def test_flags_that_are_none(value):
    env = faulty("flags", value, 2)
    env.reset()
    assert [bool(env.step(ACTION).valid[0]) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("dtype", [np.float64, np.int16, np.uint8, np.float16])
def test_numbers_of_other_types_are_good(dtype):
    env = faulty("obs", np.array([1, 2, 3], dtype), 2)
    env.reset()
    assert all(env.step(ACTION).valid[0] for _ in range(4))


def test_leaving_declared_bounds_warns_once_and_keeps():
    low, high = np.array([0, 0, -np.inf], np.float32), np.array([2, 1e6, np.inf], np.float32)
    space = gymnasium.spaces.Box(low, high, dtype=np.float32)
    env = make(lambda: Counter(0, obs=space), timeout=0.0)
    env.reset()
    env.step(ACTION)
    env.step(ACTION)
    with pytest.warns(RuntimeWarning, match="observation 0 is 3, outside"):
        assert env.step(ACTION).valid[0]
    assert env.step(ACTION).next_obs[0, 0] == 4
    assert BOX.contains(env.step(ACTION).next_obs[0])


def test_one_bad_environment_does_not_touch_another():
    made = itertools.count()
    env = make(lambda: Counter(0, fault=at(2, "obs", None) if next(made) else None), num_envs=2, timeout=0.0)
    env.reset()
    out = [env.step(np.zeros((2, 1), np.float32)) for _ in range(4)]
    assert [bool(step.valid[0]) for step in out] == [True] * 4
    assert [bool(step.valid[1]) for step in out] == [True, False, True, False]
    assert out[-1].next_obs[0, 0] == 4
