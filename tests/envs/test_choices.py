"""Discrete action spaces: one-hot vectors become the environment's integers, and come back from a record."""

import json

import gymnasium
import numpy as np
import pytest
from faulty import Counter, quiet, roll

from estep.core.types import OneHot
from estep.envs.actions import action_space, recorded
from estep.envs.checking.checker import check_env
from estep.errors import EnvironmentFailure

SPACE = gymnasium.spaces.Discrete(3, start=-1)


def test_one_hot_vectors_are_the_integers_from_the_start_on():
    made = []
    env = quiet(lambda: made.append(Counter(0, act=SPACE)) or made[-1], num_envs=2)
    env.reset()
    assert (env.spec.action_dim, env.spec.squash, env.spec.discrete) == (3, OneHot(), True)
    assert env.describe()["action"] == "one of 3"
    roll(env, np.eye(3, dtype=np.float32)[[[0, 2], [1, 1], [2, 0]]])
    assert [one.actions for one in made] == [[-1, 0, 1], [1, 0, -1]]
    assert all(SPACE.contains(action) for one in made for action in one.actions)


SPACES = [
    SPACE,
    gymnasium.spaces.Discrete(2),
    gymnasium.spaces.Box(-2.0, 4.0, (2, 3)),
    gymnasium.spaces.Box(-2.0, 4.0, ()),
    gymnasium.spaces.MultiDiscrete([[2, 3], [1, 5]], start=[[0, 1], [-2, 7]]),
    gymnasium.spaces.MultiDiscrete([5]),
    gymnasium.spaces.MultiBinary((2, 2)),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_space_comes_back_from_its_record(space):
    read = action_space(space, "it")
    again = recorded(json.loads(json.dumps(read.record())))
    assert again.record() == read.record()
    u, action = read.uniform(np.random.default_rng(0), 500)
    np.testing.assert_array_equal(read.native(action), again.native(action))
    assert all(space.contains(one if one.dtype.kind == "i" else np.asarray(one)) for one in read.native(action))
    np.testing.assert_allclose(read.squash(u), action, atol=1e-6)
    assert read.native(action[0]).shape == space.shape
    twice = read.uniform(np.random.default_rng(0), 500)[1]
    np.testing.assert_array_equal(action, twice)
    np.testing.assert_array_equal(read.unpack(read.pack(action)), action)
    np.testing.assert_array_equal(read.unpack(action), action)  # as 0.1.0 recorded them


def test_uniform_choices_are_uniform():
    action = action_space(SPACE, "it").uniform(np.random.default_rng(1), 30_000)[1]
    assert action.dtype == np.float32
    assert (action.sum(1) == 1).all()
    np.testing.assert_allclose(action.mean(0), np.full(3, 1 / 3), atol=0.01)


@pytest.mark.parametrize(
    "record",
    [
        {"n": 1, "start": 0, "dtype": "int64"},
        {"n": 2.0, "start": 0, "dtype": "int64"},
        {"n": 2, "start": 0, "dtype": "object"},
        {"n": 200, "start": 0, "dtype": "int8"},
        {"n": 2, "start": 2**63 - 1, "dtype": "int64"},
        {"n": 2, "dtype": "int64"},
        {"nvec": [2, 3], "start": [0], "shape": [2], "dtype": "int64"},
        {"nvec": [2, 3], "start": [0, 0], "shape": [3], "dtype": "int64"},
        {"nvec": [2, 0], "start": [0, 0], "shape": [2], "dtype": "int64"},
        {"nvec": [2, 300], "start": [0, 0], "shape": [2], "dtype": "int8"},
    ],
)
def test_a_malformed_record_is_refused(record):
    with pytest.raises((KeyError, TypeError, EnvironmentFailure)):
        recorded(record)


def test_several_choices_are_of_all_combinations_equally():
    action = action_space(gymnasium.spaces.MultiDiscrete([2, 3]), "it").uniform(np.random.default_rng(1), 30_000)[1]
    np.testing.assert_allclose(action.mean(0), [1 / 2] * 2 + [1 / 3] * 3, atol=0.01)
    assert abs(np.corrcoef(action[:, 0], action[:, 2])[0, 1]) < 0.02


def test_recorded_actions_that_are_no_choices_are_refused():
    read = action_space(gymnasium.spaces.MultiDiscrete([2, 3]), "it")
    for wrong in ([[0, 3]], [[-1, 0]], [[0.5, 0]], [[0, 0, 0]]):
        with pytest.raises(ValueError, match="recorded actions"):
            read.unpack(np.array(wrong, np.float32))


class Table(Counter):
    """Looks its actions up in a dict, as gymnasium's tables of states do, which takes hashable ones alone."""

    tells_episode = False

    def step(self, action):
        assert {-1: 0, 0: 0, 1: 0}[action] == 0
        return super().step(action)


def test_an_action_has_one_form_in_a_step_and_in_a_restore():
    made = []
    one, two = (quiet(lambda: made.append(Table(0, act=SPACE)) or made[-1]) for _ in range(2))
    one.reset()
    roll(one, np.eye(3, dtype=np.float32)[[[0], [2], [1]]])
    assert one.progress()[0].actions.tolist() == [[0], [2], [1]]
    assert two.restore(one.progress())[1] == [True]
    assert made[0].actions == made[1].actions
    assert {type(action) for env in made for action in env.actions} == {np.int64}


def test_a_restore_is_exact_and_the_checker_finds_nothing():
    actions = np.eye(2, dtype=np.float32)[np.random.default_rng(1).integers(2, size=(60, 1))]
    one, two = (quiet("CartPole-v1", seed=3) for _ in range(2))
    one.reset()
    roll(one, actions[:37])
    assert two.restore(one.progress())[1] == [True]
    for a, b in zip(roll(one, actions[37:]), roll(two, actions[37:]), strict=True):
        assert all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))
    found = check_env("CartPole-v1")
    assert {finding.name: finding.detail for finding in found}["action space"] == "one of 2"
    assert all(finding.ok for finding in found), found
