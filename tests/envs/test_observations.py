"""Observations of every shape become vectors of numbers; what cannot is refused with advice that works."""

import json

import gymnasium
import numpy as np
import pytest
from faulty import Counter, at, quiet
from gymnasium import spaces
from gymnasium.wrappers import FilterObservation, FlattenObservation

from estep.envs.checking.checker import check_env
from estep.envs.observations import observation_space, recorded_observations
from estep.errors import EnvironmentFailure

NESTED = spaces.Dict(
    {
        "place": spaces.Dict({"z": spaces.Box(-1, 1, (2, 2)), "here": spaces.Discrete(3, start=2)}),
        "angle": spaces.Box(-np.inf, 5, ()),
        "lights": spaces.MultiBinary(2),
    }
)
SAMPLE = {"place": {"z": np.arange(4.0).reshape(2, 2), "here": 3}, "angle": 0.5, "lights": np.array([1, 0], np.int8)}
FLAT = [0.5, 1, 0, 0, 1, 0, 0, 1, 2, 3]
"""The sample in the order of gymnasium's keys, which are sorted: angle, lights, place.here as one of three, place.z."""


def test_a_dict_is_flattened_in_the_order_of_its_keys():
    read, out = observation_space(NESTED, "it"), np.empty(10, np.float32)
    assert read.read(SAMPLE, out) == ""
    assert out.tolist() == FLAT
    again = recorded_observations(json.loads(json.dumps(read.record())))
    assert again.record() == read.record()
    for value in (SAMPLE, FLAT):
        rows, single = again.batch(value)
        assert (rows.tolist(), single) == ([FLAT], True)
    many = {
        "place": {"z": np.stack([SAMPLE["place"]["z"]] * 3), "here": [3, 3, 3]},
        "angle": [0.5] * 3,
        "lights": np.array([[1, 0]] * 3),
    }
    for value in (many, [FLAT] * 3):
        rows, single = again.batch(value)
        assert (rows.tolist(), single) == ([FLAT] * 3, False)


def test_the_order_is_that_of_gymnasium():
    boxes = spaces.Dict(
        {"b": spaces.Box(-1, 1, (2,)), "a": spaces.Dict({"d": spaces.Discrete(3), "c": spaces.Box(0, 1, ())})}
    )
    sample = boxes.sample()
    np.testing.assert_array_equal(observation_space(boxes, "it").batch(sample)[0][0], spaces.flatten(boxes, sample))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 3), (3, 1), (2, 3), (1, 1), (2, 1, 3)])
def test_one_observation_and_a_batch_are_told_by_the_shape(shape):
    read = observation_space(spaces.Box(-9, 9, shape), "it")
    one = np.arange(read.size, dtype=np.float32).reshape(shape)
    assert [batch[1] for batch in map(read.batch, (one, one[None], np.stack([one, one])))] == [True, False, False]
    assert read.batch(np.stack([one, one]))[0].shape == (2, read.size)
    assert read.batch(one.tolist())[0].tolist() == [one.ravel().tolist()]
    for wrong in (np.zeros((5, 5, 5)), np.zeros((0, *shape)), None, "obs"):
        with pytest.raises((TypeError, ValueError)):
            read.batch(wrong)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({"angle": 0.5}, "'lights' is missing"),
        (SAMPLE | {"lights": [1, 0, 1]}, "shape"),
        (SAMPLE | {"place": {"z": np.zeros((2, 2)), "here": 5}}, "one of its 3 choices"),
        (SAMPLE | {"place": None}, r"'place\.here' is missing"),
        (FLAT[1:], "shape"),
    ],
)
def test_a_dict_that_does_not_fit_is_refused_by_its_key(value, match):
    with pytest.raises(ValueError, match=match):
        observation_space(NESTED, "it").batch(value)


class Telling(Counter):
    """Observations in a dict: the step, and a zero."""

    tells_episode = False

    def __init__(self, fault=None):
        super().__init__(fault=fault)
        self.observation_space = spaces.Dict(
            {"step": spaces.Box(0, 99, ()), "episode": spaces.Box(-1, 99, (1, 1), np.float64)}
        )

    def _obs(self):
        return {"step": float(self.steps), "episode": np.full((1, 1), self.episode * self.tells_episode)}


def test_an_environment_gives_its_dict_as_a_vector_and_a_bad_one_is_a_bad_transition():
    env = quiet(Telling)
    assert env.describe()["observation"] == "2 (episode 1, step 1)"
    assert env.reset().tolist() == [[0, 0]]
    assert env.step(np.zeros((1, 1), np.float32)).next_obs.tolist() == [[0, 1]]
    bad = quiet(lambda: Telling(at(1, "obs", {"step": 1.0})))
    bad.reset()
    assert not bad.step(np.zeros((1, 1), np.float32)).valid.any()
    assert bad.bad == 1
    found = {finding.name: finding.ok for finding in check_env(Telling)}
    assert all(found[name] for name in ("observation space", "observations", "step determinism", "restore"))


def test_a_table_of_states_is_one_hot():
    env = quiet("FrozenLake-v1")
    assert (env.spec.obs_dim, env.spec.action_dim) == (16, 4)
    assert env.reset().tolist() == [np.eye(16)[0].tolist()]


class Mission(spaces.Space):
    """A space of a package's own, which does not say whether it can be flattened."""


@pytest.mark.parametrize(
    "space",
    [
        spaces.Dict({"a": spaces.Box(0, 1), "mission": Mission()}),
        spaces.Tuple((spaces.Discrete(32), spaces.Box(0, 1, (2,)))),
        spaces.Text(4),
        spaces.MultiDiscrete([3, 4]),
        spaces.Dict({"a": spaces.Box(0, 1), "b": spaces.Text(3)}),
        spaces.Dict({"a": spaces.Box(0, 1), "b": spaces.Sequence(spaces.Discrete(2))}),
    ],
)
def test_advice_works_for_the_space_at_hand(space):
    env = gymnasium.make("CartPole-v1").unwrapped
    env.observation_space = space
    with pytest.raises(EnvironmentFailure) as refused:
        observation_space(space, "it")
    if "FlattenObservation" in refused.value.fix:
        wrapped = FlattenObservation(env)
    else:
        assert "FilterObservation with filter_keys=['a']" in refused.value.fix
        wrapped = FilterObservation(env, ["a"])
    assert observation_space(wrapped.observation_space, "it").size > 0


@pytest.mark.parametrize(
    "space", [spaces.Sequence(spaces.Discrete(2)), spaces.Discrete(10**6), spaces.Dict({}), spaces.Box(0, 1, (0,))]
)
def test_what_no_wrapper_mends_is_refused_with_what_to_write(space):
    with pytest.raises(EnvironmentFailure) as refused:
        observation_space(space, "it")
    assert "Flatten" not in refused.value.fix


def test_pixels_are_known_and_stored_as_they_are():
    image = observation_space(spaces.Box(0, 255, (4, 5, 3), np.uint8), "it")
    assert (image.image.shape, image.storage) == ((4, 5, 3), np.uint8)
    memory = observation_space(spaces.Box(0, 255, (128,), np.uint8), "it")
    assert (memory.image, memory.storage) == (None, np.uint8)
    mixed = observation_space(
        spaces.Dict({"eye": spaces.Box(0, 255, (4, 5, 3), np.uint8), "arm": spaces.Box(0, 1)}), "it"
    )
    assert (mixed.image.name, mixed.storage) == ("the observation 'eye'", np.float32)
    out = np.empty(60, np.float32)
    assert image.read(np.full((4, 5, 3), 255, np.uint8), out) == ""
    assert (out == 255).all()
    assert "uint8" in image.read(np.full((4, 5, 3), 0.5), out)
    assert "uint8" in image.read(np.full((4, 5, 3), 256), out)
