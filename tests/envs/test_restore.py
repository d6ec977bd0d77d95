"""What a resumed run needs of an environment, and the simulator resets that nothing else tells."""

import math

import numpy as np
import pytest
from faulty import Counter, Remembering, Simulated, act, at, quiet, roll

from estep.errors import RejectedInput


@pytest.mark.parametrize("name", ["Pendulum-v1", "HalfCheetah-v5"])
def test_restore_is_exact(name):
    one = quiet(name, num_envs=2, seed=3)
    one.reset()
    size = one.spec.action_dim
    actions = np.random.default_rng(1).uniform(-1, 1, (437, 2, size)).astype(np.float32)
    roll(one, actions[:137])
    one.finished()
    two = quiet(name, num_envs=2, seed=3)
    obs, exact = two.restore(one.progress())
    assert exact == [True, True]
    assert obs.tobytes() == np.stack([p.obs for p in one.progress()]).tobytes()
    for a, b in zip(roll(one, actions[137:]), roll(two, actions[137:]), strict=True):
        assert all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))
    assert one.finished() == two.finished()


def test_restore_that_differs_begins_anew(monkeypatch):
    one = quiet(Remembering)
    one.reset()
    roll(one, [act()] * 3)
    old = Remembering()
    old.ever = 400
    obs, exact = quiet(old).restore(one.progress())
    assert exact == [False]
    assert obs[0, 0] == 0
    monkeypatch.setattr("estep.envs.instance.RECORDED", 10)
    long = quiet(lambda: Counter(0))
    long.reset()
    roll(long, [act()] * 11)
    (progress,) = long.progress()
    assert progress.actions.shape == (0, 1)
    assert progress.length == 11
    again = quiet(lambda: Counter(0))
    assert again.restore([progress])[1] == [False]
    assert again.progress()[0].episode == 1


def test_restore_at_an_episode_start():
    one, two = quiet(Counter, seed=5), quiet(Counter, seed=5)
    one.reset()
    roll(one, [act()] * 5)  # the episode has just ended and the next begun
    (progress,) = one.progress()
    assert (progress.episode, progress.length) == (1, 0)
    inner = two._instances[0].env
    inner.episode = 0  # the counter tells the episode; let it tell the same
    assert two.restore([progress])[1] == [True]


def test_silent_mujoco_reset_is_seen():
    random = np.random.default_rng(0)
    env = quiet("HalfCheetah-v5", seed=1)
    env.reset()
    for _ in range(20):
        for _ in range(int(random.integers(0, 12))):
            assert env.step(random.uniform(-1, 1, (1, 6)).astype(np.float32)).valid.all()
        before, good = env.bad, env.progress()[0]
        data = env._instances[0].env.unwrapped.data
        data.qvel[int(random.integers(9))] = 1e11
        step = env.step(act(1, 6))
        assert not step.valid[0]
        assert step.truncated[0]
        assert not step.terminated[0]
        assert env.bad == before + 1
        assert (step.next_obs[0] == good.obs).all()
        for _ in range(12):  # keep the bad ones apart
            env.step(act(1, 6))
        env.load_counters({"total": [0], "seen": [0], "row": [0], "recent": []})


def test_silent_mujoco_reset_at_the_first_step_is_seen():
    env = quiet("HalfCheetah-v5", seed=1)
    env.reset()
    env._instances[0].env.unwrapped.data.qvel[0] = 1e11  # time goes from 0 to 0.05 all the same: only the warning tells
    step = env.step(act(1, 6))
    assert not step.valid[0]
    assert env.step(act(1, 6)).valid[0]


def valid(env, steps):
    env.reset()
    return [bool(step.valid[0]) for step in roll(env, [act()] * steps)]


def test_a_reset_by_the_simulator_is_told_from_what_the_environment_does():
    assert valid(quiet(lambda: Simulated(unstable=4)), 5) == [True] * 3 + [False, True]
    assert all(valid(quiet(lambda: Simulated(respawn=4, waits=range(6, 30))), 40))  # kinematics, waiting, a respawn
    assert all(valid(quiet(lambda: Simulated(unstable=4), detect_resets=False), 5))


def test_data_that_is_not_mujocos_is_left_alone():
    class Lazy(Counter):
        @property
        def data(self):
            raise RuntimeError("not loaded yet")

    assert all(valid(quiet(Lazy), 4))


def test_counters_round_trip():
    env = quiet(lambda: Counter(fault=at(3, "reward", math.nan)))
    env.reset()
    roll(env, [act()] * 10)
    other = quiet(Counter)
    other.load_counters(env.counters())
    assert other.counters() == env.counters()
    assert other.bad == 3
    for broken in ({}, {**env.counters(), "row": [1, 2]}, {**env.counters(), "recent": [3, 1]}, {"total": [None]}):
        with pytest.raises(RejectedInput):
            other.load_counters(broken)
