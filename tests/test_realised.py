"""What inferred actions gain, on a linear-quadratic task whose values are known."""

from dataclasses import replace

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.algorithms.sac import SAC
from estep.core.keys import make_key
from estep.core.learned import fixed
from estep.core.slots import Likelihood
from estep.core.types import Identity, Spec
from estep.envs import gymnasium as envs
from estep.inference.direct import Direct
from estep.instruments.realised import realised
from estep.likelihoods.q_function import Pessimism, minimum
from estep.m_steps.temperature import Constant
from oracles import lqr

TASK = lqr.problem()._replace(w=np.zeros((2, 2)))
GAIN = np.array([[-0.1, 0.0], [0.0, -0.1]])
P = lqr.value(TASK, GAIN, np.eye(2))[0]
"""The direct policy is u = GAIN s. Its value is -sᵀPs/2."""


class Plant(gymnasium.Env):
    """The task without noise. Episodes have 120 steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)  # no action gets there
    falls = False

    def reset(self, *, seed=None, options=None):
        gymnasium.Env.reset(self, seed=seed)
        self.s, self.t = 0.5 * self.np_random.normal(size=2), 0
        return self.s.copy(), {}

    def step(self, action):
        u = np.asarray(action, np.float64)
        reward, self.s, self.t = TASK.reward(self.s, u), TASK.a @ self.s + TASK.b @ u, self.t + 1
        return self.s.copy(), float(reward), False, False, {}

    def save_state(self):
        return self.s.copy(), self.t

    def load_state(self, state):
        self.s, self.t = state[0].copy(), state[1]


class Linear(eqx.Module):
    """λ = (GAIN s, log σ)."""

    log_sigma: jax.Array

    def __call__(self, obs):
        return jnp.concatenate([jnp.asarray(GAIN, jnp.float32) @ obs, jnp.broadcast_to(self.log_sigma, 2)])


class Exact(Likelihood):
    """Q of the direct policy, twice, plus `peak` times a hill beside the direct action, which is false."""

    peak: jax.Array
    gamma: float = eqx.field(static=True, default=TASK.gamma)
    pessimism: Pessimism = eqx.field(static=True, default=minimum)

    def values(self, obs, u):
        form = lambda matrix, x: -0.5 * x @ jnp.asarray(matrix, jnp.float32) @ x
        after = jnp.asarray(TASK.a, jnp.float32) @ obs + jnp.asarray(TASK.b, jnp.float32) @ u
        q = form(TASK.q, obs) + form(TASK.r, u) + TASK.gamma * form(P, after)
        beside = u - jnp.asarray(GAIN, jnp.float32) @ obs - jnp.asarray([0.3, 0.2])
        return jnp.full(2, q + self.peak * jnp.exp(-jnp.square(beside).sum() / 0.1))

    def __call__(self, problem, action, key):
        return self.pessimism(self.values(problem.obs, action))

    def loss(self, batch, bootstrap, key):
        return jnp.zeros(()), {}


def agent_with(likelihood, log_sigma):
    agent = SAC(hidden_sizes=(8,)).init(Spec(2, 2, Identity()), make_key(0))
    direct = fixed(Direct(Linear(jnp.asarray(log_sigma))))
    alpha = fixed(Constant(jnp.asarray(1e-3)))
    return replace(agent, likelihood=fixed(likelihood), inference=direct, temperature=alpha)


def measured(peak, log_sigma, kind=Plant, **options):
    env = envs.make(lambda: gymnasium.wrappers.TimeLimit(kind(), 120), num_envs=1, seed=0)
    options = {"states": 24, "episodes": 6, "steps": 10, "horizon": 60, **options}
    return realised(agent_with(Exact(jnp.asarray(peak)), log_sigma), env, None, make_key(1), **options)


@pytest.fixture(scope="module")
def exact():
    return measured(0.0, -1.0)


def test_with_the_exact_critic_the_realised_gain_is_the_predicted_gain(exact):
    assert [(row.optimiser, row.iterations) for row in exact.rows] == [("semi-amortised", k) for k in (1, 2, 5, 20)]
    assert (exact.states, exact.episodes, exact.steps, exact.horizon) == (24, 6, 10, 60)
    for one in exact.in_states:
        assert one.realised == pytest.approx(one.predicted, abs=1e-4)
        assert one.control == pytest.approx(one.control_predicted, abs=1e-4)
    last = exact.rows[-1]
    assert last.predicted_low > 0.01
    assert last.control < 0
    print(last)


def test_what_a_false_peak_promises_is_not_realised():
    for row in measured(2.0, -3.0).rows[2:]:
        print(row)
        assert row.predicted_low > 0
        assert row.realised_high < 0
