"""MPO, its parametric form and RERPI: their E-steps, what each step touches, and soft LQR."""

import functools as ft
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.algorithms.mpo import MPO
from estep.algorithms.mpo_parametric import ParametricMPO
from estep.algorithms.rerpi import RERPI
from estep.core import acting, em
from estep.core.acting import log_prob_memo
from estep.core.batch import flatten
from estep.core.em import apply_pending
from estep.core.keys import make_key
from estep.core.learned import fixed
from estep.core.slots import Likelihood
from estep.core.types import Clip, Identity, OneHot, Spec, Tanh, Transition
from estep.errors import UsageError
from estep.families.particles import Particles
from estep.priors.network import LOG_SIGMA
from oracles import lqr, rows

SMALL = {"hidden_sizes": (16, 16), "target_period": 3, "samples": 5}
ROWS = {
    "mpo": MPO(**SMALL, target="td0"),
    "coupled": MPO(**SMALL, trust_region="coupled", epsilon_box=0.0, act_with="posterior", target="td0"),
    "rank": RERPI(**SMALL, weights="rank", covariance="full"),
    "parametric": ParametricMPO(**SMALL),
}
WEIGHED = [name for name in ROWS if name != "parametric"]
TRAINED = [name for name in ROWS if name != "coupled"]
OBS = jnp.asarray([0.5, -1.0, 0.2])


@ft.cache
def start(name, seed=0):
    return rows.compiled(lambda key: ROWS[name].init(rows.SPEC, key))(make_key(seed))


@ft.cache
def updater(name):
    return rows.compiled(em.update)


@ft.cache
def trained(name, steps):
    """An agent after some updates."""
    agent = start(name)
    for t in range(steps):
        agent, info = updater(name)(agent, rows.batch(t), make_key(t))
        assert info["skipped"] == 0
    return agent


GROUPS = {
    "prior": lambda agent: agent.prior.model,
    "slow prior": lambda agent: agent.prior.target,
    "net": lambda agent: agent.inference.model,
    "critic": lambda agent: agent.likelihood.model,
    "slow critic": lambda agent: agent.likelihood.target,
    "alpha": lambda agent: agent.temperature.model,
    "multipliers": lambda agent: getattr(agent.projection.model, "multipliers", None),
    "box": lambda agent: getattr(agent.projection.model, "box", None),
}


def changed(before, after):
    def differs(group):
        leaves = [jax.tree.leaves(group(agent)) for agent in (before, after)]
        return any(not np.array_equal(x, y) for x, y in zip(*leaves, strict=True))

    return {name for name, group in GROUPS.items() if differs(group)}


TOUCHED = {
    "mpo": (set(), {"prior", "alpha", "multipliers", "box"}, {"critic"}),
    "parametric": ({"net"}, {"prior", "alpha"}, {"critic"}),
}
"""What the E-step, the M-step and the critic's step change of each row."""


def steps(agent):
    """The agent after each of its three steps alone."""
    batch, key = rows.batch(), make_key(7)
    with_draws, draws, _, _ = agent.e_step(agent, batch, key)
    after = with_draws, em.m_step(agent, draws, flatten(batch))[0], em.critic_step(agent, batch, key)[0]
    return [apply_pending(each)[0] for each in after]


@pytest.mark.long
@pytest.mark.parametrize("row", TOUCHED)
def test_each_step_touches_its_own_parameters_alone(row):
    agent = trained(row, 1)  # at the very start the parametric posterior is its prior, and the slow copies are equal
    after = rows.compiled(steps)(agent)
    assert tuple(changed(agent, each) for each in after) == TOUCHED[row]
    assert all(jax.tree.structure(each) == jax.tree.structure(agent) for each in after)


def same(one, other):
    """Equal up to the rounding of a step of size one."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-9), one, other)


@pytest.mark.parametrize("row", TRAINED)
def test_slow_copies_are_hard_and_move_together_every_so_often(row):
    first = trained(row, 1)
    assert not {"slow prior", "slow critic"} & changed(trained(row, 2), first)
    third = trained(row, 3)
    assert {"slow prior", "slow critic"} <= changed(third, first)
    same(third.likelihood.target, third.likelihood.model)
    if row != "parametric":
        same(third.prior.target, third.prior.model)


@pytest.mark.long
def test_the_prior_of_the_parametric_form_is_its_posterior_before_the_update():
    before, after = trained("parametric", 2), trained("parametric", 3)
    same(after.prior.target.net, before.inference.model.net)
    assert (before.inference.model.low, before.inference.model.high) == LOG_SIGMA
    assert changed(before, after) >= {"prior", "slow prior", "net"}
    fresh = start("parametric")
    same(fresh.prior.model.net, fresh.inference.model.net)


@pytest.mark.parametrize("target", ["td0", "n-step", "retrace"])
@pytest.mark.parametrize("spec", [rows.SPEC, Spec(3, 4, OneHot())], ids=["box", "choices"])
def test_weighing_by_value_rerpi_is_mpo_with_joint_bounds(spec, target):
    """To the last choice and array, whatever its critic is regressed on: so all that is known of the one holds of the
    other, over choices too."""
    bounds = {"epsilon_mean": 1e-3, "epsilon_scale": 1e-5, "target": target, "unroll": 4}
    rerpi, mpo = RERPI(**SMALL, **bounds), MPO(**SMALL, **bounds, trust_region="joint")
    one, other = (rows.compiled(lambda key, row=row: row.init(spec, key))(make_key(0)) for row in (rerpi, mpo))
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert (one.length, one.remember is log_prob_memo) == (1 if target == "td0" else 4, target == "retrace")


@pytest.mark.long
@pytest.mark.parametrize("row", TRAINED)
def test_an_unsound_update_changes_nothing(row):
    agent, batch = trained(row, 2), rows.batch(2)  # the third update would move the slow copies
    after, info = updater(row)(agent, batch._replace(reward=batch.reward.at[3].set(jnp.nan)), make_key(2))
    assert info["skipped"] == 1
    jax.tree.map(np.testing.assert_array_equal, after, agent)


def inferred(name):
    """The particles of one state, with the slow critic's values there."""

    def infer(agent, key):
        q, problem, _ = agent.infer(agent.inference.model, agent.likelihood.slow, OBS, key)
        values = jax.vmap(lambda u: agent.likelihood.slow(problem, u, key))(q.action)
        climbed = agent.e_step(agent, rows.batch(), key)[1]
        return q, values, problem.alpha, agent.prior.slow(OBS), climbed

    agent = trained(name, 2)
    sharp = replace(agent.temperature.model, log_alpha=jnp.asarray(-2.0)) if name == "mpo" else agent.temperature.model
    return rows.compiled(infer)(replace(agent, temperature=fixed(sharp)), make_key(5))


def test_the_weights_are_a_softmax_of_slow_values_and_v_is_their_log_mean_exp():
    q, values, alpha, prior, climbed = inferred("mpo")
    weight = np.exp(values / alpha) / np.exp(values / alpha).sum()
    np.testing.assert_allclose(np.exp(q.log_weight), weight, rtol=1e-5)
    assert weight.max() > 0.3
    draws = q.draw(make_key(0), 1, prior)
    v = draws.weight @ (values - alpha * draws.log_ratio)
    np.testing.assert_allclose(v, alpha * np.log(np.exp(values / alpha).mean()), rtol=1e-5)
    np.testing.assert_array_equal(q.mode(), q.action[weight.argmax()])
    np.testing.assert_allclose(climbed.weight.sum(-1), 1.0, rtol=1e-6)
    kl = (climbed.weight * climbed.log_ratio).sum(-1)
    assert ((kl > 0) & (kl < np.log(SMALL["samples"]))).all()


@pytest.mark.long
def test_rank_weights_follow_the_order_of_the_slow_values():
    q, values, _, _, _ = inferred("rank")
    score = np.log((SMALL["samples"] + 1) / np.arange(1, SMALL["samples"] + 1))
    np.testing.assert_allclose(np.exp(q.log_weight)[np.argsort(-values)], score / score.sum(), rtol=1e-4)


def test_particles_are_drawn_by_weight_and_have_no_density():
    q = Particles(jnp.asarray([[0.0], [1.0], [2.0]]), jnp.log(jnp.asarray([0.2, 0.5, 0.3])))
    drawn = np.asarray(rows.compiled(jax.vmap(q.sample))(jax.random.split(make_key(0), 4000)))[:, 0]
    np.testing.assert_allclose([(drawn == i).mean() for i in range(3)], [0.2, 0.5, 0.3], atol=0.03)
    with pytest.raises(UsageError):
        q.log_prob(jnp.zeros(1))


@pytest.mark.parametrize("row", ["mpo", "parametric"])
def test_the_critic_bootstraps_from_the_slow_policy_and_pays_no_kl(row):
    agent = trained(row, 2)
    hot = replace(agent, temperature=fixed(replace(agent.temperature.model, log_alpha=jnp.asarray(5.0))))
    value = rows.compiled(lambda agent, key: agent.bootstrap(agent).value(rows.arriving(OBS), key))
    np.testing.assert_array_equal(value(agent, make_key(1)), value(hot, make_key(1)))

    def mean(agent, key):
        prior = agent.prior.slow(OBS)
        draws = prior.draw(jax.random.split(key)[0], agent.target_samples, prior)
        return jax.vmap(lambda u: agent.likelihood.slow(agent.problem(None, OBS), u, key))(draws.action).mean()

    np.testing.assert_allclose(value(agent, make_key(1)), rows.compiled(mean)(agent, make_key(1)), rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("row", ROWS)
def test_the_fresh_policy_is_as_wide_as_asked_and_acts_as_asked(row):
    agent, obs = start(row), jnp.stack([OBS] * 2000)
    u, action = rows.compiled(acting.act)(agent, obs, make_key(0))
    np.testing.assert_array_equal(action, rows.compiled(jax.vmap(agent.spec.squash))(u))
    np.testing.assert_allclose(u.std(0), 0.7, rtol=0.1)
    np.testing.assert_allclose(u.mean(0), 0.0, atol=0.1)
    greedy = rows.compiled(acting.act_greedily)(agent, obs[:2], make_key(0))
    mean = np.stack([agent.prior.slow(OBS).mode()] * 2)
    if row == "coupled":
        assert np.abs(greedy - mean).min() > 0.01  # the best of a few draws of each state
        assert (greedy[0] != greedy[1]).all()
    else:
        np.testing.assert_allclose(greedy, mean, atol=1e-3)


@pytest.mark.parametrize("row", WEIGHED)
def test_actions_are_clipped_where_the_box_is_and_free_where_there_is_none(row):
    assert start(row).spec.squash == Clip()
    assert (start(row).projection.model.box is None) == (row == "coupled")
    free = jax.eval_shape(lambda: ROWS[row].init(Spec(3, 2, Identity()), make_key(0)))
    assert free.spec.squash == Identity()
    assert free.projection.model.box is None
    assert start("parametric").spec.squash == Tanh()


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (MPO, {"samples": 1}),
        (MPO, {"target_period": 0}),
        (MPO, {"tau": 0.0}),
        (MPO, {"epsilon": 0.0}),
        (MPO, {"epsilon_scale": float("nan")}),
        (MPO, {"epsilon_box": -1.0}),
        (MPO, {"sigma": 100.0}),
        (MPO, {"dual_learning_rate": 0.0}),
        (MPO, {"trust_region": "full"}),
        (MPO, {"act_with": "critic"}),
        (RERPI, {"weights": "linear"}),
        (RERPI, {"rank_shift": -19.0}),
        (RERPI, {"epsilon_mean": -1.0}),
        (RERPI, {"target": "td1"}),
        (RERPI, {"unroll": 0}),
        (ParametricMPO, {"samples": 0}),
        (ParametricMPO, {"target_samples": 0}),
        (ParametricMPO, {"hidden_sizes": ()}),
    ],
)
def test_bad_numbers_are_refused_by_their_name(kind, change):
    with pytest.raises(UsageError, match=next(iter(change))):
        kind(**change)


class Hill(Likelihood):
    """Q̂ = -|a - tanh s|², the same for ever."""

    def __call__(self, problem, action, key):
        return -jnp.square(action - jnp.tanh(problem.obs)).sum()

    def loss(self, batch, bootstrap, key):
        return jnp.zeros(()), {}


FAST = {"hidden_sizes": (16, 16), "target_period": 5, "learning_rate": 3e-3}


@pytest.mark.long
@pytest.mark.parametrize("row", ["mpo", "parametric"])
def test_the_policy_climbs_a_fixed_critic(row):
    moves = {"samples": 20, "epsilon_mean": 0.1, "epsilon_scale": 1e-3} if row == "mpo" else {}
    agent = replace(ROWS[row], **FAST, **moves).init(Spec(1, 1, Identity()), make_key(0))
    agent = replace(agent, likelihood=fixed(Hill()))

    def update(agent, key):
        k_obs, k = jax.random.split(key)
        obs = jax.random.normal(k_obs, (32, 1, 1))
        nought = jnp.zeros((32, 1))
        return em.update(agent, Transition(obs, jnp.zeros((32, 1, 1)), nought, nought, obs, nought), k)[0], None

    obs = jnp.linspace(-1.5, 1.5, 7)[:, None]
    greedy = lambda agent: jax.vmap(lambda s: agent.prior.slow(s).mode())(obs)
    run = lambda agent: greedy(jax.lax.scan(update, agent, jax.random.split(make_key(1), 800))[0])
    assert np.abs(greedy(agent) - jnp.tanh(obs)).mean() > 0.5
    assert np.abs(jax.jit(run)(agent) - jnp.tanh(obs)).mean() < 0.15


def regulate(row, updates):
    """The greedy gain of a row after training on an LQR, and the best one; relative error."""
    x = lqr.problem()._replace(alpha=1e-9)  # the plain return: the gain of the best policy at any fixed spread
    agent = row.init(Spec(2, 2, Identity()), make_key(0))
    a, b, q, r = (jnp.asarray(m, jnp.float32) for m in (x.a, x.b, x.q, x.r))
    probe = jax.random.normal(make_key(5), (64, 2))

    def step(agent, key):
        k_s, k_u, k_w, k = jax.random.split(key, 4)
        s = 1.2 * jax.random.normal(k_s, (128, 2))
        u = -0.3 * s + 1.0 * jax.random.normal(k_u, (128, 2))
        reward = -0.5 * ((s @ q * s).sum(-1) + (u @ r * u).sum(-1))
        after = s @ a.T + u @ b.T + jnp.sqrt(jnp.asarray(x.w[0, 0], jnp.float32)) * jax.random.normal(k_w, s.shape)
        batch = Transition(s, u, reward, jnp.ones(128), after, jnp.zeros(128))
        agent, _ = em.update(agent, jax.tree.map(lambda leaf: leaf[:, None], batch), k)
        mean = jax.vmap(lambda s: agent.prior.slow(s).mode())(probe)
        return agent, probe.T @ mean

    su = jax.jit(lambda agent: jax.lax.scan(step, agent, jax.random.split(make_key(1), updates))[1])(agent)
    gain = np.linalg.solve(np.asarray(probe.T @ probe), np.asarray(su[-updates // 4 :]).mean(0)).T
    best = lqr.optimum(x)[0]
    return np.abs(gain - best).max() / np.abs(best).max()


LQR_ROWS = {
    "mpo": MPO(
        hidden_sizes=(64, 64),
        learning_rate=1e-3,
        gamma=0.8,
        target_period=20,
        epsilon_mean=1e-2,
        epsilon_scale=1e-4,
        target="td0",
    ),
    "rerpi": RERPI(
        hidden_sizes=(64, 64),
        learning_rate=1e-3,
        gamma=0.8,
        target_period=20,
        epsilon_mean=2e-2,
        epsilon_scale=2e-4,
        weights="rank",
    ),
    "parametric": ParametricMPO(
        hidden_sizes=(64, 64), learning_rate=1e-3, gamma=0.8, target_period=20, num_critics=1, beta=0.0
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("row", LQR_ROWS)
def test_the_gain_of_lqr_is_found(row):
    assert regulate(LQR_ROWS[row], 4000) < 0.10
