"""Environments on the host in threads: the same bits as Gymnasium's own, one after the other."""

import gymnasium
import numpy as np
import pytest

from estep.envs.gymnasium import make
from estep.population import stepping
from estep.population.stepping import SideBySide, threads_for

TASKS = sorted(name for name, spec in gymnasium.registry.items() if "mujoco" in str(spec.entry_point) and "-v5" in name)


@pytest.mark.parametrize("task", TASKS)
def test_threads_give_the_bits_of_gymnasium(task):
    seeds = 3
    batches = [SideBySide([make(task, seed=seed) for seed in range(seeds)], threads) for threads in (2, 0)]
    alone, obs = [], [batch.reset() for batch in batches]
    for env in batches[1].envs:
        one = gymnasium.make(task)
        alone.append((one, one.reset(seed=env.seed_of_episode(0))[0]))
    np.testing.assert_array_equal(obs[0], obs[1])
    generator, size = np.random.default_rng(0), batches[0].envs[0].spec.action_dim
    for _ in range(8):
        action = generator.uniform(-1, 1, (seeds, 1, size)).astype(np.float32)
        found = [batch.step(action, [False] * seeds).step for batch in batches]
        for mine, theirs in zip(*found, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        for i, (one, _) in enumerate(alone):
            native = batches[0].envs[i].action_space.native(action[i])[0]
            truth = one.step(native)
            np.testing.assert_array_equal(found[0].next_obs[i, 0], truth[0].astype(np.float32))
            assert found[0].reward[i, 0] == np.float32(truth[1])
            if truth[2]:
                alone[i] = one, one.reset(seed=batches[0].envs[i].seed_of_episode(1))
    for env in (*batches[0].envs, *batches[1].envs):
        env.close()


def test_there_are_eleven_tasks():
    assert len(TASKS) == 11


def test_tasks_of_mujoco_gain_by_threads_where_there_are_cores(monkeypatch):
    mujoco = [make("Reacher-v5", seed=seed) for seed in range(3)]
    monkeypatch.setattr(stepping, "usable_cores", lambda: 2)
    assert threads_for(mujoco) == 2
    assert threads_for(mujoco[:1]) == 0
    assert threads_for([make("Pendulum-v1", seed=0), make("Pendulum-v1", seed=1)]) == 0
    monkeypatch.setattr(stepping, "usable_cores", lambda: 1)
    assert threads_for(mujoco) == 0


def test_a_seed_that_fails_in_a_thread_is_named_and_the_others_go_on():
    class Failing(gymnasium.Wrapper):
        def step(self, action):
            raise RuntimeError("broken")

    envs = [make("Reacher-v5", seed=0), make(lambda: Failing(gymnasium.make("Reacher-v5")), seed=1)]
    batch = SideBySide(envs, 2)
    obs = batch.reset()
    found = batch.step(np.zeros((2, 1, 2), np.float32), [False, False])
    assert set(found.failed) == {1}
    assert "broken" in found.failed[1]
    assert found.step.valid[:, 0].tolist() == [True, False]
    np.testing.assert_array_equal(found.step.obs[1], obs[1])
