"""The environment of before is compared by shapes, types and bounds, not by sizes alone."""

import shutil
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import RescaleAction, TransformAction

import estep
from estep.envs.actions import action_space
from estep.envs.observations import observation_space
from estep.errors import UsageError
from estep.policy.spaces import Spaces, check_spaces

RELEASES = Path(__file__).parents[1] / "releases" / "0.1.0"
ACTION, OBS = spaces.Box(-1, 1, (2,)), spaces.Box(-9, 9, (3,))


def before(action=ACTION, obs=OBS):
    read = observation_space(obs, "it")
    return Spaces(read.size, action_space(action, "it"), read)


def check(saved, action=ACTION, obs=OBS):
    check_spaces(saved, action_space(action, "it"), observation_space(obs, "it"))


def test_equal_spaces_pass_silently():
    check(before())
    check(before(spaces.Discrete(3)), spaces.Discrete(3))
    check(before()._replace(observation=None), obs=spaces.Box(-1, 1, (3,)))


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        (ACTION, spaces.Box(-3, 3, (2,)), ["dimension 0", "bounds", "[-3, 3]", "[-1, 1]"]),
        (ACTION, spaces.Box(np.float32([-1, -1]), np.float32([1, 2])), ["dimension 1", "[-1, 2]", "[-1, 1]"]),
        (ACTION, spaces.Box(-1, 1, (2,), np.float64), ["float64", "float32"]),
        (ACTION, spaces.Box(-1, 1, (2, 1)), ["(2, 1)", "(2,)"]),
        (ACTION, spaces.Discrete(2), ["one of 2", "2 in [-1, 1]"]),
        (spaces.Discrete(3), spaces.Discrete(3, start=1), ["'start': 1", "'start': 0"]),
        (spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([3, 2]), ["[3, 2]", "[2, 3]"]),
    ],
)
def test_other_actions_are_refused_and_both_are_named(old, new, names):
    with pytest.raises(UsageError) as refused:
        check(before(action=old), action=new)
    assert all(name in refused.value.what for name in names), refused.value.what


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        (OBS, spaces.Box(-9, 9, (3, 1)), ["(3, 1)", "(3,)"]),
        (OBS, spaces.Box(-9, 9, (3,), np.float64), ["float64", "float32"]),
        (OBS, spaces.Discrete(3), ["one of 3", "shape (3,)"]),
        (spaces.Dict({"a": OBS}), spaces.Dict({"b": OBS}), ["(a 3)", "(b 3)"]),
    ],
)
def test_other_shapes_and_types_of_observations_are_refused(old, new, names):
    with pytest.raises(UsageError) as refused:
        check(before(obs=old), obs=new)
    assert all(name in refused.value.what for name in names), refused.value.what


def test_other_bounds_of_observations_are_warned_of():
    with pytest.warns(RuntimeWarning, match=r"bounds \[-5, 5\], not \[-9, 9\]"):
        check(before(), obs=spaces.Box(-5, 5, (3,)))


def wider():
    env = gymnasium.make("Pendulum-v1")
    return TransformAction(env, lambda action: action / 2, spaces.Box(-4.0, 4.0, (1,)))


def test_a_run_of_an_earlier_release_is_compared_by_what_it_records(tmp_path):
    run = shutil.copytree(RELEASES / "sac-Pendulum-v1", tmp_path / "run")
    config = (run / "config.json").read_bytes()
    policy = estep.load(run)
    assert policy.observation_space is None
    assert policy.act(np.zeros(3)).shape == policy.act([0.0, 0.0, 0.0]).shape == (1,)
    assert policy.act(np.zeros((1, 3))).shape == (1, 1)
    for refused in (lambda: policy.evaluate(1, env=wider), lambda: estep.resume(run, steps=400, env=wider)):
        with pytest.raises(UsageError, match=r"bounds \[-4, 4\], not \[-2, 2\]"):
            refused()
    assert (run / "config.json").read_bytes() == config
    assert policy.evaluate(1, env=lambda: RescaleAction(wider(), np.float32([-2]), np.float32([2]))).lengths == [200]
