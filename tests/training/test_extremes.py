"""Numbers and episodes at the extremes: each is learned from, or the run halts with a sentence that names the cause."""

import re

import gymnasium
import jax
import numpy as np
import pytest
from child import SMALL, Notes, config
from faulty import Counter, at

from estep.envs.gymnasium import make
from estep.errors import EnvironmentFailure, NumericHalt
from estep.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:Observation .* beyond 1000", "ignore:.*bounds")
SPACE = gymnasium.spaces.Box


def trained(env, steps=120, algorithm="sac", **changes):
    """A trainer after some updates of small networks. Every number of its agent is finite, and most have moved."""
    one = Trainer(SMALL[algorithm], make(env, timeout=0.0), config(**changes), Notes().note)
    one.begin()
    before = jax.device_get(jax.tree.leaves(one.agent))
    while one.counts.env_steps < steps:
        one.advance()
    after = jax.device_get(jax.tree.leaves(one.agent))
    assert all(np.isfinite(leaf).all() for leaf in after)
    moved = sum(not np.array_equal(old, new) for old, new in zip(before, after, strict=True))
    assert moved > len(before) / 2
    return one


def refused(env):
    """Whether an environment is refused, with a sentence on its bounds."""
    try:
        make(env, timeout=0.0)
    except EnvironmentFailure as failure:
        return "bounds" in failure.what
    return False


def rewarding(size):
    return lambda: Counter(length=20, fault=at(None, "reward", size))


@pytest.mark.parametrize("size", [1e6, -1e6, 1e15, 1e-30, 0.0])
def test_rewards_that_can_be_squared_are_learned_from(size):
    one = trained(rewarding(size))
    assert (one.counts.skipped, one.counts.updates) == (0, 80)


@pytest.mark.parametrize("size", [1e20, -3e38])
def test_rewards_that_cannot_be_squared_halt_the_run_and_are_named(size):
    with pytest.raises(NumericHalt, match=re.escape(f"with rewards of up to {abs(size):.0e}")) as raised:
        trained(rewarding(size))
    assert f"--reward-scale {1 / abs(size):.0e}" in raised.value.fix


def test_observations_that_cannot_be_squared_halt_the_run_and_are_named():
    far = lambda: Counter(length=20, fault=at(None, "obs", np.full(3, 1e30, np.float32)))
    with pytest.raises(NumericHalt, match="with observations of up to 1e\\+30") as raised:
        trained(far)
    assert "--normalise" in raised.value.fix


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("value", [0.0, 1e3])
def test_constant_observations_are_learned_from(value, normalise):
    constant = lambda: Counter(length=20, fault=at(None, "obs", np.full(3, value, np.float32)))
    assert trained(constant, normalise=normalise).counts.skipped == 0


@pytest.mark.parametrize("algorithm", ["sac", pytest.param("iterative-sac", marks=pytest.mark.long)])
def test_episodes_of_one_step_are_learned_from(algorithm):
    one = trained(lambda: Counter(length=1), algorithm=algorithm)
    assert one.counts.skipped == 0
    assert one.counts.episodes == 120


@pytest.mark.parametrize("side", ["action", "observation"])
@pytest.mark.parametrize("bound", [1e-30, 1e-300])
def test_bounds_near_zero_are_learned_in_or_refused(side, bound):
    act = SPACE(-bound, bound, (1,), np.float64) if side == "action" else SPACE(-1, 1, (1,))
    obs = SPACE(-bound, bound, (3,), np.float64) if side == "observation" else SPACE(-np.inf, np.inf, (3,))
    inside = np.full(3, bound / 2)
    fault = at(None, "obs", inside if side == "observation" else np.ones(3, np.float32))
    env = lambda: Counter(length=20, act=act, obs=obs, fault=fault)
    if side == "action" and refused(env):
        return
    assert trained(env).counts.skipped == 0
