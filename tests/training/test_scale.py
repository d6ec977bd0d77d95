"""Images without a network, and numbers that are too large, are told before or at the first steps."""

import warnings

import gymnasium
import numpy as np
import pytest
from faulty import Counter, quiet
from gymnasium import spaces

from estep.algorithms.sac import SAC
from estep.errors import UsageError
from estep.settings.run import RunConfig
from estep.training.scale import WATCHED, ScaleWatch, warn_of_bounds
from estep.training.trainer import Trainer

IMAGE = spaces.Box(0, 255, (4, 5, 3), np.uint8)


def trainer(obs, **options):
    env = quiet(lambda: Counter(obs=obs))
    return Trainer(SAC(hidden_sizes=(8,), **options), env, RunConfig(replay_size=1000), lambda text: None)


def pixel_sums(obs_dim, key):
    return lambda obs: obs.reshape(4, 5, 3).sum((0, 1)) / 5100.0


@pytest.mark.parametrize("space", [IMAGE, spaces.Dict({"eye": IMAGE, "arm": spaces.Box(0, 1)})])
def test_an_image_is_never_flattened_in_silence(space):
    with pytest.raises(UsageError, match="image of 4 x 5 x 3 pixels") as refused:
        trainer(space)
    assert "features" in refused.value.fix
    assert "own_images" in refused.value.fix


def test_an_image_for_a_network_of_ones_own_is_stored_once_as_bytes():
    made = trainer(IMAGE, features=pixel_sums)
    assert made.replay._obs.dtype == np.uint8
    assert 60 * 1000 < made.replay_bytes < 60 * 1000 + 60 * 20 + 40 * 1020
    assert made.agent.inference.model.net(np.zeros(60, np.float32)).shape == (2,)


@pytest.mark.parametrize(("high", "warned"), [(1e3, False), (1e4, True)])
def test_large_bounds_of_actions_are_warned_of(high, warned):
    env = quiet(lambda: Counter(act=spaces.Box(np.float32([-1, -1]), np.float32([1, high]))))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn_of_bounds(env)
        warn_of_bounds(quiet(lambda: Counter(act=gymnasium.spaces.Discrete(5000))))
    assert ["dimension 1 has the bounds [-1, 10000]" in str(one.message) for one in said] == [True] * warned


@pytest.mark.parametrize(
    ("step", "size", "normalise", "warned"),
    [(0, 2e3, False, 1), (WATCHED, 2e3, False, 1), (0, 9e2, False, 0), (0, 2e3, True, 0)],
)
def test_large_observations_are_warned_of_once(step, size, normalise, warned):
    watch, obs = ScaleWatch(quiet(Counter), normalise), np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -size]], np.float32)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(3):
            watch.check(obs, step)
    assert ["Observation 2 is -2000" in str(one.message) for one in said] == [True] * warned
    assert all("normalise" in str(one.message) for one in said)


def test_later_observations_are_not_looked_at():
    watch = ScaleWatch(quiet(Counter), False)
    watch.check(np.zeros((1, 3), np.float32), WATCHED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch.check(np.full((1, 3), 1e6, np.float32), WATCHED + 1)
