"""Evaluation: whole episodes of a policy on environments and seeds of its own."""

import jax
import numpy as np
import pytest
from child import SMALL
from faulty import Counter, at

from estep.core.types import Spec
from estep.envs.build import EVAL, TRAIN
from estep.envs.gymnasium import make
from estep.policy.actor import Actor, key_of
from estep.policy.evaluate import evaluate
from estep.training.update import init

PENDULUM = Spec(3, 1)


@pytest.fixture(scope="module")
def agent():
    return init(SMALL["sac"], PENDULUM, key_of(0, 0))


def judge(agent, seed=0, episodes=2, num_envs=2, env="Pendulum-v1", scaling=None, deterministic=True, **options):
    made = make(env, num_envs=num_envs, seed=seed, stream=EVAL, timeout=0.0, **options)
    try:
        return evaluate(Actor(agent), made, episodes, seed, scaling, deterministic)
    finally:
        made.close()


def test_equal_seeds_give_equal_numbers_and_others_do_not(agent):
    first = judge(agent)
    assert judge(agent) == first
    assert judge(agent, seed=1).returns != first.returns
    assert len(set(first.returns)) == 2
    assert first.lengths == [200, 200]
    assert first.mean == np.mean(first.returns)
    assert first.std == np.std(first.returns)


@pytest.mark.long
def test_iterative_inference_is_deterministic_too():
    agent = init(SMALL["iterative-sac"], PENDULUM, key_of(0, 0))
    assert judge(agent) == judge(agent)


def test_actions_may_be_drawn_and_equal_seeds_draw_alike(agent):
    drawn = judge(agent, deterministic=False)
    assert drawn.returns != judge(agent).returns
    assert judge(agent, deterministic=False) == drawn


def test_the_action_is_the_mode_and_noise_plays_no_part(agent):
    obs = np.array([[0.3, -0.2, 1.0], [0.1, 0.9, -2.0]], np.float32)
    one, two = (np.asarray(Actor(agent).mode(obs, key_of(seed, 3), np.uint32(seed), None)) for seed in (0, 5))
    assert one.tobytes() == two.tobytes()


def test_evaluation_plays_other_episodes_than_training():
    first = [make("Pendulum-v1", seed=0, stream=stream, timeout=0.0).reset() for stream in (TRAIN, EVAL)]
    assert (first[0] != first[1]).all()


def lengths(counter):
    """Environment i plays episodes of i + 1 steps, so that some are done long before others."""
    made = iter(range(1, 100))
    return lambda: counter(length=next(made))


@pytest.mark.parametrize(
    ("episodes", "num_envs", "wanted"),
    [
        (1, 1, [1]),
        (5, 1, [1] * 5),
        (5, 2, [1, 2, 1, 2, 1]),
        (7, 3, [1, 2, 3, 1, 2, 3, 1]),
        (3, 3, [1, 2, 3]),
    ],
)
def test_each_environment_plays_its_share_however_fast_it_is(agent, episodes, num_envs, wanted):
    found = judge(agent, episodes=episodes, num_envs=num_envs, env=lengths(Counter))
    assert found.lengths == wanted
    assert found.returns == [n * (n + 1) / 2 for n in wanted]  # the reward of step t is t


def test_an_environment_without_an_end_is_cut(agent):
    with pytest.warns(RuntimeWarning, match="2 of 2 evaluation episodes were cut after 7 steps"):
        found = judge(agent, env=lambda: Counter(length=0), max_episode_steps=7)
    assert found.lengths == [7, 7]
    assert found.cut == 2


def test_a_bad_first_observation_does_not_count_as_an_episode(agent):
    bad = lambda: Counter(length=4, fault=at(0, "obs", np.full(3, np.nan, np.float32), episode=0))
    assert judge(agent, episodes=3, num_envs=1, env=bad).lengths == [4, 4, 4]


def test_nor_does_it_let_another_environment_play_more(agent):
    made = iter([Counter(length=1), Counter(length=2, fault=at(0, "obs", np.full(3, np.nan, np.float32), episode=0))])
    assert judge(agent, episodes=4, env=lambda: next(made)).lengths == [1, 1, 2, 2]


def test_the_scale_of_observations_reaches_the_policy(agent):
    scaling = np.full(3, 0.5, np.float32), np.full(3, 3.0, np.float32)
    assert judge(agent, scaling=scaling).returns != judge(agent).returns
    assert jax.tree.leaves(agent)  # not donated
