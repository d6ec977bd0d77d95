"""Pure environments against Gymnasium's, and what is refused."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.core.types import Identity, OneHot, Spec
from estep.envs.ids import unknown_id
from estep.envs.pure.adapter import find, on_host
from estep.envs.pure.environment import PureEnv, check_pure
from estep.errors import EnvironmentFailure


def states(gym, name):
    """A copy of the state of Gymnasium's environment."""
    return jnp.asarray(np.array(gym.unwrapped.state), jnp.float32)


@pytest.mark.parametrize("name", ["Pendulum-v1", "CartPole-v1"])
def test_each_step_is_that_of_gymnasium(name):
    gym, env = gymnasium.make(name), find(f"pure/{name}")
    observe, step = jax.jit(env.observe), jax.jit(env.step)
    generator, ends = np.random.default_rng(0), 0
    assert gym.spec.max_episode_steps == env.limit
    obs, _ = gym.reset(seed=0)
    for _ in range(200):
        state = states(gym, name)
        np.testing.assert_allclose(observe(state), obs, atol=1e-5)
        action = generator.uniform(-1.3, 1.3, env.spec.action_dim).astype(np.float32)
        if env.spec.discrete:
            action = np.eye(2, dtype=np.float32)[generator.integers(2)]
        native = int(action.argmax()) if env.spec.discrete else 2 * action
        obs, reward, terminated, truncated, _ = gym.step(native)
        after, mine, ended = step(state, action)
        np.testing.assert_allclose(mine, reward, atol=1e-4)
        assert bool(ended) == terminated
        if name == "CartPole-v1" or not terminated:
            np.testing.assert_allclose(observe(after), obs, atol=2e-5)
        if terminated or truncated:
            ends += 1
            obs, _ = gym.reset(seed=ends)
    assert ends


@pytest.mark.parametrize("name", ["Pendulum-v1", pytest.param("CartPole-v1", marks=pytest.mark.long)])
def test_first_states_are_spread_as_those_of_gymnasium(name):
    gym, env = gymnasium.make(name), find(f"pure/{name}")
    ours = jax.vmap(lambda key: env.observe(env.reset(key)))(jax.random.split(jax.random.key(0), 200))
    theirs = np.stack([gym.reset(seed=seed)[0] for seed in range(200)])
    spread = theirs.std(0)
    np.testing.assert_allclose(ours.mean(0) / spread, theirs.mean(0) / spread, atol=0.3)
    np.testing.assert_allclose(ours.std(0), spread, rtol=0.15)


def test_a_pure_environment_is_one_of_gymnasium_too():
    gym, env = gymnasium.make("pure/CartPole-v1", disable_env_checker=True), find("pure/CartPole-v1")
    obs, _ = gym.reset(seed=3)
    assert (obs == env.reset(jax.random.key(3))).all()
    again, _ = gym.reset(seed=3)
    assert (obs == again).all()
    saved, wanted = gym.unwrapped.save_state(), gym.step(1)[0]
    gym.step(0)
    gym.unwrapped.load_state(saved)
    assert (gym.step(1)[0] == wanted).all()
    assert unknown_id("pure/Pendulum").fix == "Did you mean pure/Pendulum-v1?"


def point(**changes):
    parts = {
        "name": "point",
        "spec": Spec(1, 1),
        "reset": lambda key: {"at": jax.random.normal(key), "key": key},
        "observe": lambda state: state["at"][None],
        "step": lambda state, action: ({**state, "at": state["at"] + action[0]}, -state["at"], state["at"] > 9.0),
        "limit": 5,
    }
    return PureEnv(**(parts | changes))


def test_a_state_may_hold_a_key():
    check_pure(point())
    assert on_host(point()).reset(seed=0)[0].shape == (1,)


CALLS = []


def impure(state):
    CALLS.append(0)
    return state["at"][None] + len(CALLS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step": lambda s, a: ({**s, "at": s["at"][None]}, s["at"], s["at"] > 9)}, "step returns ['at'] as float32"),
        ({"step": lambda s, a: ({"at": s["at"]}, s["at"], s["at"] > 9)}, "another structure"),
        ({"step": lambda s, a: (s, s["at"])}, "does not return (state, reward, terminated)"),
        ({"step": lambda s, a: (s, s["at"], s["at"])}, "step returns float32 of shape (), where a bool"),
        ({"step": lambda s, a: (s, float(s["at"]), s["at"] > 9)}, "step cannot be compiled"),
        ({"observe": lambda s: s["at"]}, "observe returns float32 of shape (), where numbers of shape (1,)"),
        ({"observe": impure}, "observe is not a pure function"),
        ({"observe": lambda s: s["at"][None] / 0}, "not finite"),
        ({"reset": lambda key: 1 / 0}, "reset cannot be compiled: ZeroDivisionError"),
        ({"limit": 0}, "a limit below 1"),
        ({"spec": Spec(1, 1, Identity())}, "unbounded actions"),
    ],
)
def test_what_is_not_pure_is_refused_with_the_function_and_the_leaf(changes, said):
    with pytest.raises(EnvironmentFailure) as refused:
        check_pure(point(**changes))
    assert said in refused.value.what
    assert refused.value.fix


def test_choices_are_a_discrete_space():
    assert on_host(point(spec=Spec(1, 3, OneHot()))).action_space.n == 3
