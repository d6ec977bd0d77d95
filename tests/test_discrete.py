"""Discrete actions: expectations without chance, and the rows that run on them."""

import functools as ft
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax

from estep.algorithms.iterative_sac import IterativeSAC
from estep.algorithms.mpo import MPO
from estep.algorithms.mpo_parametric import ParametricMPO
from estep.algorithms.rerpi import RERPI
from estep.algorithms.sac import SAC
from estep.core import acting, em
from estep.core.batch import flatten
from estep.core.keys import make_key
from estep.core.learned import fixed
from estep.core.objective import soft_value
from estep.core.slots import Draws, Likelihood, Prior, Problem
from estep.core.types import OneHot, Spec
from estep.errors import UsageError
from estep.families.categorical import Categorical, Softmax, categorical_kl
from estep.families.particles import Boltzmann
from estep.inference.cem import CEM
from estep.inference.closed_form import ClosedForm, Exact
from estep.inference.importance import Importance, from_prior
from estep.m_steps import trust_region as regions
from estep.m_steps.multipliers import Multiplier
from estep.m_steps.temperature import KLConstraint, least_entropy
from estep.priors.flat import Flat
from estep.priors.network import CategoricalNetwork
from estep.priors.uniform import Uniform
from oracles import rows

N, STATES, KEY = 4, 3, make_key(0)
SPEC = Spec(STATES, N, OneHot())
LOGITS, VALUES = np.array([0.3, -1.2, 0.7, 0.1]), np.array([1.0, -0.4, 0.2, 2.5])


class Known(Prior):
    """The same distribution in every state."""

    density: Categorical

    def __call__(self, obs):
        return self.density


class Table(Likelihood):
    """Q̂ of one state as a table."""

    values: jax.Array

    def __call__(self, problem, action, key):
        return action @ self.values

    def loss(self, batch, bootstrap, key):
        raise NotImplementedError


def known(logits):
    return Known(Categorical(jnp.asarray(logits, jnp.float32)))


PRIORS = {
    "flat": (Flat(SPEC), np.zeros(N)),
    "uniform": (Uniform(SPEC), np.full(N, -np.log(N))),
    "known": (known([2.0, 0.0, -1.0, 0.5]), log_softmax([2.0, 0.0, -1.0, 0.5])),
}


def problem(prior="known", alpha=0.7, values=VALUES):
    return Problem(jnp.zeros(STATES), PRIORS[prior][0], Table(jnp.asarray(values)), jnp.asarray(alpha))


@pytest.mark.parametrize("prior", PRIORS)
def test_expectations_are_sums_over_all_choices_and_so_are_their_gradients(prior):
    pi, log_p = softmax(LOGITS), PRIORS[prior][1]
    with jax.enable_x64(True):
        given = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), problem(prior))
        value = lambda lam: soft_value(Categorical(lam), given, KEY, 1)[0]
        found, gradient = rows.compiled(jax.value_and_grad(value))(jnp.asarray(LOGITS))
    advantage = VALUES - 0.7 * (np.log(pi) - log_p)
    np.testing.assert_allclose(found, pi @ advantage, rtol=1e-7)
    # dπ_a/dλ_b = π_a (1[a = b] - π_b), and the gradient of log π has no expectation
    np.testing.assert_allclose(gradient, pi * (advantage - pi @ advantage), rtol=1e-6)


def test_draws_are_the_choices_whatever_is_asked_for():
    q, prior = Categorical(jnp.asarray(LOGITS, jnp.float32)), Uniform(SPEC)(jnp.zeros(STATES))
    for n in (1, 50):
        draws = q.draw(KEY, n, prior)
        np.testing.assert_array_equal(draws.action, np.eye(N))
        np.testing.assert_allclose(draws.weight, softmax(LOGITS), rtol=1e-5)
        np.testing.assert_allclose(draws.log_ratio, log_softmax(LOGITS) + np.log(N), rtol=1e-5)
    np.testing.assert_array_equal(q.mode(), np.eye(N)[2])
    sampled = np.asarray(rows.compiled(jax.vmap(q.sample))(jax.random.split(KEY, 20_000)))
    assert set(np.unique(sampled)) == {0.0, 1.0}
    assert (sampled.sum(1) == 1).all()
    np.testing.assert_allclose(sampled.mean(0), softmax(LOGITS), atol=0.015)


def test_a_forbidden_choice_costs_nothing_and_breaks_nothing():
    @rows.compiled
    def found(lam):
        q, uniform = Categorical(lam), Uniform(SPEC)(jnp.zeros(STATES))
        value = lambda lam, p: soft_value(Categorical(lam), problem()._replace(prior=Known(p)), KEY)[0]
        kl = lambda lam, p: categorical_kl(Categorical(lam), p)
        each = [jax.value_and_grad(f)(lam, p) for f in (value, kl) for p in (Categorical(2 * lam), uniform)]
        return each, jax.vmap(q.log_prob)(jnp.eye(N))

    for least in (-1e30, -np.inf):
        lam = np.array([0.5, least, 0.0, -0.5], np.float32)
        each, log_prob = found(jnp.asarray(lam))
        np.testing.assert_allclose(np.delete(log_prob, 1), np.delete(log_softmax(lam), 1), rtol=1e-5)
        assert log_prob[1] < -1e29
        for value, gradient in each:
            assert np.isfinite(value)
            assert np.isfinite(gradient).all()
            assert gradient[1] == 0
        np.testing.assert_allclose(each[3][0], np.log(N) - entropy(np.delete(lam, 1)), rtol=1e-6)


def entropy(logits):
    log_p = log_softmax(np.float64(logits))
    return -np.exp(log_p) @ log_p


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 0.3, 3.0, 60.0])
def test_the_kl_keeps_its_digits(scale):
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, d = rng.normal(size=N).astype(np.float32), (scale * rng.normal(size=N)).astype(np.float32)
        b = a + d
        log_q, log_p = log_softmax(a.astype(np.float64)), log_softmax(b.astype(np.float64))
        exact = np.exp(log_q) @ (log_q - log_p)
        kl, gradient = KL_AND_GRADIENT(jnp.asarray(a), jnp.asarray(b))
        # log-probabilities carry an error of 1e-7, so d does
        np.testing.assert_allclose(kl, exact, rtol=1e-4 + 4e-7 / scale, atol=1e-12)
        np.testing.assert_allclose(gradient, np.exp(log_p) - np.exp(log_q), rtol=1e-3, atol=1e-6)
        assert kl >= 0
    assert KL_AND_GRADIENT(jnp.asarray(a), jnp.asarray(a) + 3)[0] < 1e-12


KL_AND_GRADIENT = rows.compiled(
    jax.value_and_grad(lambda q, p: categorical_kl(Categorical(q), Categorical(p)), argnums=1)
)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("alpha", [1e-3, 0.7, 50.0])
def test_exact_inference_has_the_log_sum_exp_as_its_value(prior, alpha):
    """The soft value of the Boltzmann posterior is the log of the evidence, and V of any other q is lower by
    α KL(q‖posterior)."""
    log_p = PRIORS[prior][1]
    evidence, other = alpha * logsumexp(log_p + VALUES / alpha), Categorical(jnp.asarray(LOGITS, jnp.float32))
    highest, value, kl = VALUES_AND_KL(problem(prior, alpha), other)
    np.testing.assert_allclose(highest, evidence, rtol=1e-6, atol=1e-6 + 1e-7 * alpha)  # α log q is rounded
    np.testing.assert_allclose(value, evidence - alpha * kl, rtol=1e-5, atol=1e-5)


@rows.compiled
def VALUES_AND_KL(given, other):
    best = Softmax(N)(Exact()(given, Softmax(N), KEY).lam)
    return soft_value(best, given, KEY)[0], soft_value(other, given, KEY)[0], categorical_kl(other, best)


def test_importance_sampling_is_exact_and_the_cross_entropy_method_refuses():
    for proposal in ({}, {"proposal": from_prior}):
        lam = rows.compiled(Importance(10, 1, **proposal))(problem(), Softmax(N), KEY).lam
        np.testing.assert_allclose(softmax(lam), softmax(PRIORS["known"][1] + VALUES / 0.7), rtol=1e-5)
    with pytest.raises(UsageError, match="choices"):
        CEM(2, 20)(problem(), Softmax(N), KEY)


def test_the_gradient_of_the_dual_is_epsilon_minus_kl():
    log_p, epsilon = PRIORS["known"][1], 0.1
    with jax.enable_x64(True):
        given = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), problem())

        @rows.compiled
        def gradients(log_eta):
            temperature = KLConstraint(log_eta, epsilon)
            ours = given._replace(alpha=temperature())
            draws = soft_value(Softmax(N)(Exact()(ours, Softmax(N), KEY).lam), ours, KEY)[1]
            kl = (draws.weight @ draws.log_ratio)[None]
            evidence = lambda eta: jax.nn.logsumexp(jnp.asarray(log_p) + jnp.asarray(VALUES) / eta)
            dual = lambda log_eta: jnp.exp(log_eta) * (epsilon + evidence(jnp.exp(log_eta)))
            return jax.grad(lambda temperature: temperature.loss(kl)[0])(temperature).log_alpha, jax.grad(dual)(log_eta)

        for eta in (0.05, 0.7, 20.0):
            np.testing.assert_allclose(*gradients(jnp.asarray(np.log(eta))), rtol=1e-6, atol=1e-7)


def test_the_least_entropy_is_a_fraction_of_the_largest():
    assert least_entropy(SPEC, -1.0, 0.5).epsilon == pytest.approx(-0.5 * np.log(N))
    assert least_entropy(Spec(3, 2), -1.5, 0.5).epsilon == 3.0
    with pytest.raises(UsageError, match="entropy_fraction"):
        SAC(entropy_fraction=1.0)


class Logits(Prior):
    """Logits as a table over states."""

    table: jax.Array

    def __call__(self, obs):
        return Categorical(obs @ self.table)


def test_the_m_step_over_choices_has_its_closed_form():
    """max_p Σ w log p - α KL(p̄‖p) in each state: p = (w + α p̄)/(1 + α); and the multiplier moves by ε - KL."""
    alpha, rng = 0.6, np.random.default_rng(2)
    old, weight = rng.normal(size=(STATES, N)), softmax(rng.normal(size=(STATES, N)), 1)
    best = np.log((weight + alpha * softmax(old, 1)) / (1 + alpha))
    with jax.enable_x64(True):
        example = Categorical(jnp.zeros(N))
        form = regions.form_for(example, regions.decoupled, regions.per_dimension)
        region = regions.trust_region(example, [(1e-2, 1.0)], None, *form)
        region = replace(region, multipliers={"policy": Multiplier(jnp.log(jnp.asarray([alpha])), 1e-2)})
        draws = Draws(jnp.tile(jnp.eye(N), (STATES, 1, 1)), jnp.asarray(weight), jnp.zeros((STATES, N)))

        def step(table):
            prior = replace(fixed(Logits(table)), target=Logits(jnp.asarray(old)))
            stepped, (means, _) = region.descend(prior, draws, None, jnp.eye(STATES))
            moved = jax.grad(lambda region: region.loss(means, None)[0])(region).multipliers["policy"].log_alpha
            return stepped.pending.gradient, means["policy"], moved

        step = rows.compiled(step)
        at_best, kl, moved = step(jnp.asarray(best))
        at_old, none, _ = step(jnp.asarray(old))
    np.testing.assert_allclose(at_best, 0, atol=1e-8)
    assert np.abs(at_old).max() > 1e-2
    exact = (softmax(old, 1) * (log_softmax(old, 1) - best)).sum(1).mean()
    np.testing.assert_allclose(kl, [exact], rtol=1e-6)
    np.testing.assert_allclose(none, 0, atol=1e-12)
    np.testing.assert_allclose(moved, [alpha * (1e-2 - exact)], rtol=1e-6)


ROWS = {
    "mpo-parametric": ParametricMPO(hidden_sizes=(8,), target_period=1),
    "sac": SAC(hidden_sizes=(8,)),
    "iterative-sac": IterativeSAC(hidden_sizes=(8,), persist=False, inference_fraction=1.0),
    "mpo": MPO(hidden_sizes=(8,), target_period=1, target="td0"),
}


@ft.cache
def program(row):
    """A fresh agent, the agent after an update by a key, what happened in it, and how it then acts."""

    def run(key):
        agent = ROWS[row].init(SPEC, KEY)
        new, info = em.update(agent, batch(), key)
        return agent, new, info, acting.act(new, jnp.eye(STATES), KEY), acting.act_greedily(new, jnp.eye(STATES), KEY)

    return rows.compiled(run)


@ft.cache
def ran(row, seed):
    return program(row)(make_key(seed))


def batch(seed=0, size=16):
    """Random steps of one-hot states, some of them terminal."""
    found = rows.batch(seed, size, SPEC)
    one_hot = lambda x: jax.nn.one_hot(x.argmax(-1), x.shape[-1])
    return found._replace(obs=one_hot(found.obs), next_obs=one_hot(found.next_obs), action=one_hot(found.action))


def test_parametric_mpo_keeps_its_shapes():
    old, new, _, (u, _), mode = jax.eval_shape(program("mpo-parametric"), KEY)
    assert jax.tree.structure(old) == jax.tree.structure(new)
    assert isinstance(old.prior.model, CategoricalNetwork)
    assert u.shape == mode.shape == (STATES, N)


@pytest.mark.parametrize("row", ["sac", "iterative-sac", "mpo"])
def test_an_update_over_choices_leaves_nothing_to_chance(row):
    """Two keys give the same agent: the E-step, the targets and the duals draw nothing."""
    (old, new, info, (u, action), mode), other = ran(row, 1), ran(row, 2)[1]
    assert info["skipped"] == 0
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), new, other)
    assert jax.tree.structure(new) == jax.tree.structure(old)
    pairs = zip(*(jax.tree.leaves(agent.likelihood.model) for agent in (old, new)), strict=True)
    assert not any(np.array_equal(x, y) for x, y in pairs)
    np.testing.assert_array_equal(u, action)
    for chosen in (action, mode):
        assert set(map(tuple, np.asarray(chosen))) <= set(map(tuple, np.eye(N)))


@pytest.mark.parametrize("row", ["sac", "mpo"])
def test_the_critic_regresses_on_the_exact_backup(row):
    """On a tabular problem: y = r + γ (1 - e) Σ π (Q̄ - α log π) for sac, without the KL for mpo's slow policy."""
    agent, steps = ran(row, 1)[0], batch(3)
    agent = replace(agent, temperature=fixed(KLConstraint(jnp.asarray(np.log(0.3)), 1.0)))
    flat = jax.tree.map(np.float64, flatten(steps))

    @rows.compiled
    def tables(agent):
        net = agent.inference.model.net if row == "sac" else agent.prior.slow.net
        members = jax.vmap(lambda s: jax.vmap(lambda a: agent.likelihood.slow.values(s, a))(jnp.eye(N)))
        values = jax.vmap(agent.bootstrap(agent).value)(flatten(steps), jax.random.split(KEY, len(flat.obs)))
        return members(jnp.eye(STATES)), jax.vmap(net)(jnp.eye(STATES)), values, em.critic_step(agent, steps, KEY)[1]

    members, logits, found, info = jax.tree.map(np.float64, tables(agent))
    pi, cost = softmax(logits, 1), 0.3 * log_softmax(logits, 1)
    value = (pi * (members.min(-1) - cost if row == "sac" else members[..., 0])).sum(1)
    target = flat.reward + 0.99 * flat.discount * (flat.next_obs @ value)
    np.testing.assert_allclose(flat.reward + 0.99 * flat.discount * found, target, atol=1e-5)
    now = np.einsum("bs,ba,sak->bk", flat.obs, flat.action, members)  # the slow critic is still the critic
    np.testing.assert_allclose(info["critic/target"], target.mean(), atol=1e-5)
    np.testing.assert_allclose(info["critic/loss"], 0.5 * np.square(now - target[:, None]).mean(0).sum(), rtol=1e-5)


def test_soft_value_iteration_with_exact_inference_ends_at_the_optimum():
    """Q ← r + γ P V(Q), V by inference, has the fixed point of V = α log Σ p exp(Q/α)."""
    rng, alpha, gamma = np.random.default_rng(5), 0.4, 0.8
    reward, move = rng.normal(size=(STATES, N)), softmax(2 * rng.normal(size=(STATES, N, STATES)), -1)
    given = problem("known", alpha)

    def value(values):
        one = given._replace(likelihood=Table(values))
        return soft_value(Softmax(N)(Exact()(one, Softmax(N), KEY).lam), one, KEY)[0]

    backup = lambda q, _: (
        jnp.asarray(reward, jnp.float32) + gamma * jnp.asarray(move, jnp.float32) @ jax.vmap(value)(q),
        None,
    )
    found = rows.compiled(lambda q: jax.lax.scan(backup, q, length=100)[0])(jnp.zeros((STATES, N)))
    q = np.zeros((STATES, N))
    for _ in range(500):
        q = reward + gamma * move @ (alpha * logsumexp(PRIORS["known"][1] + q / alpha, axis=1))
    np.testing.assert_allclose(found, q, atol=2e-5)


@pytest.mark.long
def test_rows_say_what_they_are_over_choices():
    mpo = ran("mpo", 1)[0]
    assert isinstance(mpo.inference.model, Exact)
    assert mpo.projection.model.box is None
    assert set(mpo.projection.model.multipliers) == {"policy"}
    for change, why in (({"weights": "rank"}, "Weights by rank need"), ({"covariance": "full"}, "no covariance")):
        with pytest.raises(UsageError, match=why):
            RERPI(**change).init(SPEC, KEY)
    continuous = jax.eval_shape(lambda key: ROWS["mpo"].init(Spec(3, 2), key), KEY)
    assert isinstance(continuous.posterior, Boltzmann)
    assert isinstance(continuous.inference.model, ClosedForm)
