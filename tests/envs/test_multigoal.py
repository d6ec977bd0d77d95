"""The environment of four goals: its dynamics, its rewards, and its name."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from estep.envs import build
from estep.envs.multigoal import GOALS, ID, MultiGoal


def at(*place):
    env = MultiGoal()
    np.testing.assert_allclose(env.reset(seed=0, options={"place": place})[0], place, rtol=1e-6)
    return env


def test_a_step_moves_and_pays_for_effort_and_distance():
    obs, reward, terminated, truncated, _ = at(1.0, 0.5).step(np.array([0.5, -0.25], np.float32))
    np.testing.assert_allclose(obs, [1.5, 0.25])
    assert reward == pytest.approx(-30 * (0.25 + 0.0625) - (3.5**2 + 0.25**2))
    assert (terminated, truncated) == (False, False)


def test_actions_and_places_are_clipped():
    obs, reward, *_ = at(6.5, -6.8).step(np.array([3.0, -3.0], np.float32))
    np.testing.assert_allclose(obs, [7.0, -7.0])
    assert reward == pytest.approx(-60 - (2**2 + 7**2))


@pytest.mark.parametrize("goal", GOALS)
def test_a_goal_ends_the_episode_and_pays_ten(goal):
    inside = goal * 0.82
    _, reward, terminated, _, _ = at(*inside).step(np.zeros(2, np.float32))
    assert terminated
    assert reward == pytest.approx(10 - 0.9**2)
    outside = at(*(goal * 0.78)).step(np.zeros(2, np.float32))
    assert not outside[2]
    assert outside[1] == pytest.approx(-(1.1**2))


def test_starts_are_near_the_origin_and_follow_the_seed():
    env = MultiGoal()
    starts = np.stack([env.reset(seed=seed)[0] for seed in range(500)])
    np.testing.assert_allclose(starts.std(0), 0.1, rtol=0.15)
    np.testing.assert_array_equal(env.reset(seed=3)[0], starts[3])
    assert (env.reset()[0] != env.reset()[0]).all()


def test_it_has_an_id_and_thirty_steps():
    assert ID in build.env_ids()
    [env] = build.build(ID, 1)
    env.reset(seed=0)
    cut = [env.step(np.zeros(2, np.float32))[3] for _ in range(30)]
    assert cut == [False] * 29 + [True]
    assert build.time_limit(env) == 30
    env.close()


def test_the_id_needs_no_jax_and_no_other_part_of_the_package():
    code = f"import sys, gymnasium; gymnasium.make('estep.envs.multigoal:{ID}'); assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert gymnasium.spec(ID).entry_point == "estep.envs.multigoal:MultiGoal"
