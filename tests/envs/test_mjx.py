"""Gymnasium's MuJoCo tasks on the device: their rules, their first states, and the simulation itself."""

import importlib.util
import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import estep
from estep.envs.ids import register
from estep.envs.pure import ids, mjx
from estep.envs.pure.adapter import find
from estep.envs.pure.environment import check_pure
from estep.envs.pure.rules import RULES, Physics
from estep.errors import UsageError
from estep.settings.references import env_text

needs_mjx = pytest.mark.skipif(importlib.util.find_spec("mujoco.mjx") is None, reason="mujoco-mjx is not installed")


def physics(gym, rules):
    """What the rules read, from MuJoCo on the host."""
    data = gym.data
    parts = [jnp.asarray(part.copy(), jnp.float32) for part in (data.qpos, data.qvel, data.qacc_warmstart)]
    seen = {} if rules.see is None else rules.see(gym, data)
    return Physics(*parts, {name: jnp.asarray(np.array(part), jnp.float32) for name, part in seen.items()})


@pytest.mark.parametrize("task", sorted(RULES))
def test_observation_reward_and_end_are_those_of_gymnasium(task):
    gym, rules = gymnasium.make(task), RULES[task]
    generator, ends, space = np.random.default_rng(0), set(), gym.action_space
    obs, _ = gym.reset(seed=0)
    np.testing.assert_allclose(rules.observe(physics(gym.unwrapped, rules)), obs, rtol=1e-5, atol=1e-5)
    for i in range(60):
        before, action = physics(gym.unwrapped, rules), generator.uniform(space.low, space.high).astype(np.float32)
        obs, reward, ended, truncated, _ = gym.step(action)
        after = physics(gym.unwrapped, rules)
        np.testing.assert_allclose(rules.observe(after), obs, rtol=1e-5, atol=1e-5)
        mine, over = rules.judge(gym.unwrapped, before, after, jnp.asarray(action))
        np.testing.assert_allclose(mine, reward, rtol=1e-3, atol=1e-4)
        assert bool(over) == ended
        ends.add(ended)
        if ended or truncated:
            gym.reset(seed=i)
    assert ends == ({False} if task in ("HalfCheetah-v5", "Swimmer-v5", "Reacher-v5") else {False, True})


@pytest.mark.parametrize("task", sorted(RULES))
def test_first_states_are_spread_as_those_of_gymnasium(task):
    gym, rules = gymnasium.make(task).unwrapped, RULES[task]

    def begin(key):
        return rules.reset(gym, key) if rules.reset else mjx.start(gym, rules.normal, key)

    ours = np.concatenate(jax.vmap(begin)(jax.random.split(jax.random.key(0), 400)), 1)
    theirs = []
    for seed in range(400):
        gym.reset(seed=seed)
        theirs.append(np.concatenate([gym.data.qpos, gym.data.qvel]))
    spread, theirs = np.std(theirs, 0), np.array(theirs)
    moved = spread > 1e-9
    assert (ours[:, ~moved] == theirs[:, ~moved]).all()
    assert (np.abs(ours.mean(0) - theirs.mean(0))[moved] < 0.35 * spread[moved]).all()
    np.testing.assert_allclose(ours.std(0)[moved], spread[moved], rtol=0.15)
    kurtosis = [((x - x.mean(0)) ** 4).mean(0)[moved] / x.std(0)[moved] ** 4 for x in (ours, theirs)]
    np.testing.assert_allclose(*kurtosis, rtol=0.35)  # 1.8 of uniform numbers, 3 of normal ones


def test_limits_are_those_of_gymnasium():
    assert set(ids.TASKS) == set(RULES)
    assert {task: gymnasium.spec(task).max_episode_steps for task in ids.TASKS} == ids.TASKS


def test_the_prefix_is_no_module():
    for text in ("mjx:Hopper-v5", "run=mjx:Hopper-v5"):
        found = env_text(text)
        assert (found.id, found.module, found.text) == ("mjx/Hopper-v5", "", "mjx:Hopper-v5")
    register("mjx:Hopper-v5")


@pytest.mark.parametrize(
    ("text", "said", "fix"),
    [
        ("mjx:Ant-v5", "cfrc_ext", "Give --env Ant-v5, on the host."),
        ("mjx:Humanoid-v5", "PGS", "Give --env Humanoid-v5, on the host."),
        ("mjx:Pusher-v5", "not compared", "Give --env Pusher-v5"),
        ("mjx:HalfCheeta-v5", "There is no environment", "Did you mean mjx/HalfCheetah-v5?"),
        ("mjx:HalfCheetah-v4", "There is no environment", "Did you mean mjx/HalfCheetah-v5?"),
        ("mjy:HalfCheetah-v5", "There is no environment", "Did you mean mjx/HalfCheetah-v5?"),
        ("pure:Pendulum-v1", "There is no environment", "Did you mean pure/Pendulum-v1?"),
    ],
)
def test_what_is_not_exact_or_not_known_is_refused(text, said, fix):
    with pytest.raises(UsageError) as refused:
        register(text)
    assert said in refused.value.what
    assert fix in refused.value.fix


def test_without_mjx_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco.mjx", None)
    monkeypatch.delattr("mujoco.mjx", raising=False)
    mjx.make.cache_clear()
    with pytest.raises(UsageError) as refused:
        find("mjx:Hopper-v5")
    assert "pip install estep[mjx]" in refused.value.fix
    assert find("Hopper-v5") is None


QUICK, SLOW = ("HalfCheetah-v5",), ("Hopper-v5", "Walker2d-v5", "Swimmer-v5", "Reacher-v5")
SLOW += ("InvertedPendulum-v5", "InvertedDoublePendulum-v5")


@needs_mjx
@pytest.mark.parametrize("task", [*QUICK, *(pytest.param(task, marks=pytest.mark.long) for task in SLOW)])
def test_ten_steps_are_those_of_gymnasium(task):
    gym, env, generator = gymnasium.make(task), find(f"mjx:{task}"), np.random.default_rng(0)
    gym.reset(seed=0)
    state, step = physics(gym.unwrapped, RULES[task]), jax.jit(env.step)
    space = gym.action_space
    for _ in range(10):
        action = generator.uniform(-1, 1, space.shape).astype(np.float32)
        obs, reward, ended, _, _ = gym.step(space.low + (action + 1) / 2 * (space.high - space.low))
        state, mine, over = step(state, action)
        np.testing.assert_allclose(state.qpos, gym.unwrapped.data.qpos, atol=2e-4)
        np.testing.assert_allclose(env.observe(state), obs, atol=1e-2)  # velocities in contacts are the least exact
        np.testing.assert_allclose(mine, reward, rtol=1e-3, atol=2e-3)
        assert bool(over) == ended


@needs_mjx
@pytest.mark.long
def test_a_task_on_the_device_is_pure():
    check_pure(find("mjx:InvertedDoublePendulum-v5"))


@needs_mjx
@pytest.mark.long
def test_a_population_trains_resumes_and_is_evaluated_on_a_task_of_mjx(tmp_path):
    options = {"population": 2, "hidden_sizes": (8,), "batch_size": 8, "warmup_steps": 20, "eval_episodes": 1}
    options |= {"report": None, "out": tmp_path, "steps": 40, "eval_every": 40}
    found = estep.train("sac", "mjx:InvertedPendulum-v5", **options)
    assert estep.resume(found.run_dir, steps=60, report=None)
    again = estep.load_population(found.run_dir)
    assert [len(one.returns) for one in again.evaluate(2)] == [2, 2]
    assert again[0].evaluate(1).mean >= 1.0
