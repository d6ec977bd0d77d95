"""What inferred actions gain, on a linear-quadratic task whose values are known."""

from dataclasses import replace
from pathlib import Path

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
from estep.core.types import Identity, OneHot, Spec, Tanh
from estep.envs import gymnasium as envs
from estep.errors import UsageError
from estep.inference.direct import Direct
from estep.instruments.play.lockstep import Table, choose, displaced
from estep.instruments.play.realised import Extent, check_agent, choose_starts, deal, realised
from estep.instruments.play.rollouts import Episode
from estep.instruments.play.ways import candidates, direct_way
from estep.likelihoods.q_function import Pessimism, minimum
from estep.m_steps.temperature import Constant
from estep.plots.realised import draw_realised
from oracles import lqr, rows

TASK = lqr.problem()._replace(w=np.zeros((2, 2)))
GAIN = np.array([[-0.1, 0.0], [0.0, -0.1]])
P = lqr.value(TASK, GAIN, np.eye(2))[0]
"""The direct policy is u = GAIN s. Its value is -sᵀPs/2."""


class Plant(gymnasium.Env):
    """The task without noise. Episodes have 120 steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)  # no action gets there

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
    return realised(agent_with(Exact(jnp.asarray(peak)), log_sigma), env, None, make_key(1), Extent(**options))


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


def test_what_a_false_peak_promises_is_not_realised():
    for row in measured(2.0, -3.0).rows[2:]:
        assert row.predicted_low > 0
        assert row.realised_high < 0


class Cliff(Plant):
    """The plant, whose episode terminates where the first state is above 0.4."""

    def step(self, action):
        obs, reward, _, _, info = Plant.step(self, action)
        return obs, reward, bool(self.s[0] > 0.4), False, info


def test_the_gain_that_is_predicted_is_the_one_that_inference_maximises():
    agent = SAC(hidden_sizes=(8,), pessimism="difference").init(Spec(2, 2, Tanh()), make_key(0))
    table, obs = Table(agent, direct_way(agent), None, make_key(1)), np.ones((1, 2))
    way = candidates(agent, (20,))[0].way
    found, still = (choose(table, policy, obs, np.uint32(0)) for policy in (way, jnp.zeros((1, 2))))
    critic, squash = agent.likelihood.model, agent.spec.squash
    there, here = (critic.values(jnp.ones(2), squash.inverse(each.action[0])[0]) for each in (found, still))
    np.testing.assert_allclose(found.gain[0], (there - here).min(), rtol=1e-3)
    assert abs(there.min() - here.min() - found.gain[0]) > 1e-3  # what it would be by value
    assert still.gain[0] == 0


def test_falls_are_counted_and_end_the_return():
    found = measured(2.0, -3.0, Cliff)
    last = found.rows[-1]
    mine = [one for one in found.in_states if one.iterations == 20]
    assert last.falls_caused == sum(one.fell and not one.direct_fell for one in mine) > 0
    assert last.falls_prevented == sum(one.direct_fell and not one.fell for one in mine)
    assert last.share == np.mean([one.realised > 0 for one in mine])


def test_the_same_key_gives_the_same_numbers(exact):
    assert measured(0.0, -1.0) == exact


def test_displacements_are_dealt_out_to_other_states_with_random_signs():
    moved = jnp.stack([jnp.arange(1.0, 33.0), -2.0 * jnp.arange(1.0, 33.0)], 1)
    dealt = np.asarray(deal(moved, make_key(3)))
    assert sorted(np.abs(dealt[:, 0])) == list(range(1, 33))
    assert (np.abs(dealt) != np.abs(moved)).all()
    assert (dealt[:, 1] == -2.0 * dealt[:, 0]).all()
    assert 8 < (dealt[:, 0] > 0).sum() < 24


def test_a_displacement_is_one_of_the_action_and_stays_in_bounds():
    u = jnp.asarray([0.3, -2.0, 9.0])
    moved = displaced(Tanh(), u, jnp.asarray([0.2, -0.5, 0.0]))
    np.testing.assert_allclose(jnp.tanh(moved), [np.tanh(0.3) + 0.2, -1.0, 1.0], atol=1e-5)
    assert moved[2] == u[2]


def names_of(agent):
    return [(one.optimiser, one.iterations) for one in candidates(agent)]


def test_every_kind_of_inference_has_its_rows():
    assert names_of(rows.start("iterative-sac")) == [("iterative", k) for k in (1, 2, 5, 20)]
    assert names_of(rows.start("mpo-parametric")) == [("semi-amortised", k) for k in (1, 2, 5, 20)]
    for row in ("mpo", "sql"):
        assert names_of(rows.start(row)) == [("particles", n) for n in (2, 5, 20)]


@pytest.mark.long
@pytest.mark.parametrize("row", ["mpo", "sql"])
def test_more_particles_have_a_higher_value_than_the_direct_policy(row):
    agent = rows.start(row)
    table = Table(agent, direct_way(agent), None, make_key(4))
    obs = np.random.default_rng(0).normal(size=(32, agent.spec.obs_dim)).astype(np.float32)
    gains = [float(choose(table, one.way, obs, np.uint32(0)).gain.mean()) for one in candidates(agent)[1:]]
    assert 0 < gains[0] < gains[1]


def test_what_has_no_critic_of_actions_or_no_displacement_is_refused():
    with pytest.raises(UsageError, match="discrete"):
        check_agent(SAC(hidden_sizes=(8,)).init(Spec(2, 3, OneHot()), make_key(0)))
    with pytest.raises(UsageError, match="does not say what its networks predict"):
        check_agent(rows.start("vmpo"))


@pytest.mark.parametrize("options", [{"steps": 61}, {"steps": 25, "horizon": 20}])
def test_episodes_without_room_for_the_steps_are_refused(options):
    with pytest.raises(UsageError, match="too short to act by inference"):
        measured(0.0, -1.0, **options)


def test_every_state_has_the_whole_horizon_before_the_time_limit():
    episode = lambda length, terminated: Episode(*(np.zeros(1),) * 5, terminated, [(length, t) for t in range(length)])
    starts = choose_starts([episode(100, False), episode(90, True)], 100, 40, 25, 1000)
    assert [list(starts.step[starts.episode == i]) for i in (0, 1)] == [list(range(61)), list(range(61))]
    assert starts.saved[70] == (90, 9)


@pytest.mark.long
def test_the_figure_is_the_same_to_the_byte(exact, tmp_path):
    drawn = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        drawn.append([Path(file).read_bytes() for file in draw_realised(exact, tmp_path / name).values()])
    assert drawn[0] == drawn[1]
