"""Weights, multipliers and the trust region: against rlax, SciPy, closed forms and float64."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar, root
from scipy.special import log_softmax, logsumexp
from scipy.stats import norm

from estep.core.keys import make_key
from estep.core.learned import fixed, learn
from estep.core.optim import adam, bounded_adam
from estep.core.slots import Draws, Prior
from estep.families.full_gaussian import FullNormal, strictly_lower
from estep.families.gaussian import Normal
from estep.families.particles import Rank, exponential, kl_to_equal
from estep.m_steps import trust_region as regions
from estep.m_steps.multipliers import Multiplier, inside_box
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS, KLConstraint
from oracles import rows

quick = settings(deadline=None, max_examples=80, derandomize=True)
RLAX = json.loads((Path(__file__).parent / "oracles" / "rlax_mpo.json").read_text())
FORMS = {
    "per-dimension": (regions.decoupled, regions.per_dimension),
    "joint": (regions.decoupled, regions.joint),
    "coupled": (regions.coupled, regions.joint),
}


class Table(Prior):
    """A Gaussian of its own in each state; the observation is the state's one-hot."""

    mu: jax.Array
    log_sigma: jax.Array

    def __call__(self, obs):
        return Normal(obs @ self.mu, obs @ self.log_sigma)


def weigh_one(values, eta):
    log_weight = exponential(values, eta)
    return jnp.exp(log_weight), kl_to_equal(log_weight)


weigh, weigh_all = rows.compiled(weigh_one), rows.compiled(jax.vmap(weigh_one, (0, None)))


temperature_gradient = rows.compiled(lambda constraint, kl: jax.grad(lambda c: c.loss(kl)[0])(constraint).log_alpha)
multiplier_gradient = rows.compiled(lambda multiplier, mean: jax.grad(lambda m: m.loss(mean))(multiplier).log_alpha)
rank_weights = rows.compiled(lambda rank, values: jnp.exp(rank(values, jnp.zeros(()))), static_argnums=0)


def exactly(values, eta):
    """The weights and their KL to equal ones, in float64."""
    log_weight = log_softmax((values - values.max()) / eta)
    weight = np.exp(log_weight)
    return weight, weight @ np.where(weight > 0, log_weight + np.log(len(values)), 0.0)


@quick
@given(
    st.sampled_from([1, 2, 20, 256]),
    st.floats(-1e6, 1e6),
    st.floats(-6, 4),
    st.floats(-8, 6),
    st.integers(0, 2**31),
    st.booleans(),
)
def test_weights_and_the_gradient_of_their_dual_keep_their_digits(n, base, log_spread, log_eta, seed, banned):
    rng = np.random.default_rng(seed)
    values = (base + 10.0**log_spread * rng.standard_normal(n)).astype(np.float32)
    if banned and n > 1:
        values[0] = -np.inf
    eta = np.float32(10.0**log_eta)
    weight, kl = weigh(values, eta)
    true_weight, true_kl = exactly(values.astype(np.float64), np.float64(eta))
    assert abs(weight.sum() - 1) < 1e-6
    np.testing.assert_allclose(weight, true_weight, atol=2e-6)
    assert abs((0.1 - kl) - (0.1 - true_kl)) < 1e-5 * (1 + abs(0.1 - true_kl))


@quick
@given(st.integers(0, 2**31), st.floats(-5, 3), st.sampled_from([0.01, 0.1, 1.0]))
def test_the_temperature_moves_against_its_violation_even_at_large_values(seed, log_eta, epsilon):
    values = (1e4 + np.random.default_rng(seed).standard_normal((8, 20))).astype(np.float32)
    eta = np.float32(10.0**log_eta)
    kl = weigh_all(values, eta)[1]
    true = epsilon - np.mean([exactly(row.astype(np.float64), np.float64(eta))[1] for row in values])
    grad = temperature_gradient(KLConstraint(np.log(eta), epsilon), kl)
    np.testing.assert_allclose(grad / eta, true, rtol=1e-5, atol=1e-5)
    assert abs(true) < 1e-4 or np.sign(grad) == np.sign(true)


@quick
@given(st.tuples(*[st.floats(-10, 10)] * 3), st.sampled_from([1e-6, 1e-3, 0.5]), st.floats(0, 2))
def test_multipliers_grow_while_their_constraints_are_violated(log_alphas, epsilon, violation):
    multiplier = Multiplier(np.array(log_alphas, np.float32), epsilon)
    grad = multiplier_gradient(multiplier, np.full(3, epsilon * violation, np.float32))
    true = np.exp(log_alphas) * epsilon * (1 - violation)
    assert (np.abs(grad - true) < 1e-5 * np.exp(log_alphas) * epsilon).all()


def settled(values, epsilon, steps=3000, start=2.3):
    """log η after many steps of the row's own optimiser on fixed values [B, n]."""

    def step(learned, _):
        kl = jax.vmap(weigh_one, (0, None))(values, learned.model())[1]
        return learned.descend(lambda c: c.loss(kl))[0].step(jnp.asarray(True)), kl.mean()

    start = learn(KLConstraint(jnp.asarray(start), epsilon), bounded_adam(1e-2, *LOG_ALPHA_BOUNDS))
    learned, kls = rows.compiled(lambda start: jax.lax.scan(step, start, None, steps))(start)
    return float(learned.model()), float(kls[-1])


def test_the_temperature_settles_at_the_optimum_of_the_dual():
    values = np.random.default_rng(0).standard_normal((16, 20)) * 3 + 50

    def dual(log_eta):
        eta = np.exp(log_eta)
        return eta * 0.1 + eta * (logsumexp(values / eta, axis=1) - np.log(20)).mean()

    best = minimize_scalar(dual, bounds=(-5, 8), method="bounded", options={"xatol": 1e-8})
    eta, kl = settled(jnp.asarray(values, jnp.float32), 0.1)
    assert abs(eta / np.exp(best.x) - 1) < 0.01
    assert abs(kl / 0.1 - 1) < 0.01


def test_an_unreachable_bound_ends_at_the_floor_and_equal_values_move_nothing_else():
    values = jnp.asarray(np.random.default_rng(0).standard_normal((4, 3)), jnp.float32)
    eta, kl = settled(values, 2.0, start=-12.0)  # log 3 is the most there is
    np.testing.assert_allclose(np.log(eta), LOG_ALPHA_BOUNDS[0], rtol=1e-5)
    np.testing.assert_allclose(kl, np.log(3), rtol=1e-5)
    weight, kl = weigh(jnp.full(20, 7.0), jnp.asarray(0.1))
    np.testing.assert_allclose(weight, 0.05, rtol=1e-6)
    assert abs(kl) < 1e-6  # so that the gradient of the dual is ε


@quick
@given(st.integers(0, 2**31), st.sampled_from([2, 5, 20]), st.sampled_from([-1.0, 0.0, 1.0, 3.5]))
def test_rank_weights_see_the_order_alone(seed, n, shift):
    values = np.random.default_rng(seed).permutation(np.linspace(-4, 4, n)).astype(np.float32)
    if n + shift <= 1:
        return
    rank = Rank(shift)
    weight = rank_weights(rank, values)
    for change in (lambda q: 5 * q + 3, np.exp):
        np.testing.assert_array_equal(weight, rank_weights(rank, change(values)))
    score = np.maximum(np.log((n + shift) / np.arange(1, n + 1)), 0)
    np.testing.assert_allclose(weight[np.argsort(-values)], score / score.sum(), rtol=1e-4, atol=1e-6)


def test_tied_ranks_go_in_order_and_negative_scores_are_cut():
    weight = rank_weights(Rank(), np.array([1.0, 2.0, 2.0], np.float32))
    assert weight[1] > weight[2] > weight[0] > 0
    cut = rank_weights(Rank(-2.0), np.array([4.0, 3.0, 2.0, 1.0], np.float32))
    np.testing.assert_allclose(cut, [1, 0, 0, 0], atol=1e-7)


def region_of(case, alphas, epsilons, box=None):
    """A trust region with the given multipliers."""
    example = Normal(jnp.zeros(alphas[0].shape), jnp.zeros(alphas[0].shape))
    made = regions.trust_region(example, [(e, 1.0) for e in epsilons], box, *FORMS[case])
    names = list(made.multipliers)
    own = {n: Multiplier(jnp.atleast_1d(jnp.log(a)), e) for n, a, e in zip(names, alphas, epsilons, strict=False)}
    assert {n: m.log_alpha.shape for n, m in own.items()} == {n: m.log_alpha.shape for n, m in made.multipliers.items()}
    return replace(made, multipliers=own)


def held(old, new):
    """A learned table whose slow copy is another one."""
    return replace(fixed(new), target=old)


@pytest.mark.parametrize("case", RLAX["cases"])
def test_weights_losses_and_gradients_are_those_of_rlax(case):
    x = {name: np.asarray(value, np.float32) for name, value in RLAX["inputs"].items()}
    wanted = {name: np.asarray(value) for name, value in RLAX["cases"][case].items()}
    b, n, _ = x["action"].shape
    weight, kl = weigh_all(x["value"], x["eta"])
    np.testing.assert_allclose(weight, wanted["weights"], atol=1e-5)
    np.testing.assert_allclose(RLAX["epsilon"] - kl.mean(), wanted["d_eta"], atol=1e-5)

    alphas = [jnp.asarray(x[name]) for name in ("alpha_mean", "alpha_scale")]
    alphas = alphas if case == "per-dimension" else [alpha[:1] for alpha in alphas]
    region = region_of_case(case, alphas)
    prior = held(Table(x["old_mu"], x["old_log_sigma"]), Table(x["mu"], x["log_sigma"]))
    draws = Draws(x["action"], weight, jnp.zeros((b, n)))
    stepped, (means, info) = rows.compiled(lambda r, p, d: r.descend(p, d, None, jnp.eye(b)))(region, prior, draws)
    gradient = np.asarray(stepped.pending.gradient).reshape(2, b, -1)
    np.testing.assert_allclose(gradient[0], wanted["d_mu"], atol=1e-5)
    np.testing.assert_allclose(gradient[1], wanted["d_log_sigma"], atol=1e-5)
    penalty = sum(float(region.multipliers[name]() @ mean) for name, mean in means.items())
    np.testing.assert_allclose(penalty - info["m/fit"], wanted["prior_loss"], rtol=1e-5)
    grads = rows.compiled(jax.grad(lambda region: region.loss(means, None)[0]))(region).multipliers
    for name, multiplier in region.multipliers.items():
        d_alpha = grads[name].log_alpha / multiplier()
        np.testing.assert_allclose(d_alpha, np.atleast_1d(wanted[ALPHA_OF[name]]), atol=1e-5)


ALPHA_OF = {"mean": "d_alpha_mean", "scale": "d_alpha_scale", "policy": "d_alpha_mean"}


def region_of_case(case, alphas):
    """The region of a case of the fixture."""
    epsilons = RLAX["epsilon_mean"], RLAX["epsilon_scale"]
    if case == "per-dimension":
        return region_of(case, alphas, epsilons)
    split, measure = FORMS[case]
    names = ("policy",) if case == "coupled" else ("mean", "scale")
    own = {n: Multiplier(jnp.log(a), e) for n, a, e in zip(names, alphas, epsilons, strict=False)}
    return regions.TrustRegion(own, None, split, measure)


def gradient_of(region, weight, action, old):
    """The gradient of the M-step in one state, as a function of (μ, log σ), in float64."""
    wide = lambda x: jnp.asarray(np.asarray(x), jnp.float64)
    region = jax.tree.map(wide, region)
    slow, draws = (
        Table(*(wide(x)[None] for x in old)),
        Draws(wide(action)[None], wide(weight)[None], wide(weight)[None]),
    )

    @rows.compiled
    def gradient(x):
        mu, log_sigma = jnp.split(x[None], 2, axis=1)
        return region.descend(held(slow, Table(mu, log_sigma)), draws, None, jnp.eye(1))[0].pending.gradient

    return lambda x: np.asarray(gradient(wide(x)))


def test_the_decoupled_m_step_has_its_closed_form():
    rng = np.random.default_rng(1)
    action, weight = rng.standard_normal((30, 2)), rng.dirichlet(np.ones(30))
    old_mu, old_sigma = np.array([0.3, -0.2]), np.array([0.8, 1.3])
    alpha_mean, alpha_scale = np.array([0.7, 3.0]), np.array([2.0, 0.1])
    mu = (weight @ action + alpha_mean * old_mu) / (1 + alpha_mean)
    var = (weight @ (action - old_mu) ** 2 + alpha_scale * old_sigma**2) / (1 + alpha_scale)
    with jax.enable_x64(True):
        region = region_of("per-dimension", [jnp.asarray(alpha_mean), jnp.asarray(alpha_scale)], (0.1, 0.1))
        gradient = gradient_of(region, weight, action, (old_mu, np.log(old_sigma)))
        found = root(gradient, np.concatenate([old_mu, np.log(old_sigma)]), tol=1e-12).x
    np.testing.assert_allclose(found[:2], mu, rtol=1e-6)
    np.testing.assert_allclose(np.exp(2 * found[2:]), var, rtol=1e-6)


@pytest.mark.long
def test_the_full_covariance_has_its_closed_form():
    rng = np.random.default_rng(2)
    action, weight = rng.standard_normal((40, 2)) @ np.array([[1.0, 0.7], [0.0, 0.5]]), rng.dirichlet(np.ones(40))
    old_mu, root_of = np.array([0.3, -0.2]), np.array([[0.8, 0.0], [0.5, 1.1]])
    old, alphas = root_of @ root_of.T, (1.7, 0.6)
    mu = (weight @ action + alphas[0] * old_mu) / (1 + alphas[0])
    gap = action - old_mu
    sigma = ((weight[:, None] * gap).T @ gap + alphas[1] * old) / (1 + alphas[1])
    with jax.enable_x64(True):
        unit = FullNormal(jnp.zeros(2), jnp.zeros(2), jnp.zeros((2, 2)))
        start = tuple(jnp.diagonal(jnp.asarray(root_of)))
        slow = FullTable(jnp.asarray(old_mu), jnp.log(jnp.asarray(start)), jnp.asarray([0.5 / 1.1]))
        made = regions.trust_region(unit, [(0.1, 1.0), (0.1, 1.0)], None, regions.decoupled, regions.joint_full)
        own = {n: Multiplier(jnp.log(jnp.asarray([a])), 0.1) for n, a in zip(("mean", "scale"), alphas, strict=True)}
        region = replace(made, multipliers=own)
        draws = Draws(jnp.asarray(action)[None], jnp.asarray(weight)[None], jnp.zeros((1, 40)))

        @rows.compiled
        def gradient(x):
            new = FullTable(x[:2], x[2:4], x[4:])
            return region.descend(held(slow, new), draws, None, jnp.zeros((1, 1)))[0].pending.gradient

        found = root(lambda x: np.asarray(gradient(jnp.asarray(x))), np.zeros(5), tol=1e-12).x
        new = FullTable(*(jnp.asarray(x) for x in (found[:2], found[2:4], found[4:])))(None)
        factor = np.asarray(jnp.exp(new.log_sigma)[:, None] * (new.lower + jnp.eye(2)))
    np.testing.assert_allclose(found[:2], mu, rtol=1e-6)
    np.testing.assert_allclose(factor @ factor.T, sigma, rtol=1e-6)


class FullTable(Prior):
    """One Gaussian with a full covariance in every state."""

    mu: jax.Array
    log_sigma: jax.Array
    below: jax.Array

    def __call__(self, obs):
        return FullNormal(self.mu, self.log_sigma, strictly_lower(self.below, 2))


@pytest.mark.long
def test_good_actions_off_the_mean_widen_the_decoupled_and_narrow_the_coupled_policy():
    """Q = -(a - 3)² about N(0, 0.3²) at KL ε = 0.1: variances 0.1039 and 0.0860 (Gaussian integrals by hand: the tilted
    policy is N(m, v) with 1/v = 1/0.09 + 2/η)."""
    z = norm.ppf((np.arange(4000) + 0.5) / 4000)
    action = 0.3 * z[:, None]
    values = -np.square(action[:, 0] - 3.0)
    eta, kl = settled(jnp.asarray(values[None], jnp.float32), 0.1)
    v = 1 / (1 / 0.09 + 2 / eta)
    m = v * 2 * 3 / eta
    assert abs(eta - 3.855) < 0.02
    assert abs(kl - 0.1) < 1e-3
    weight = exactly(values.astype(np.float64), eta)[0]
    for case, wanted in (("per-dimension", v + m * m), ("coupled", v)):
        with jax.enable_x64(True):
            nothing = [jnp.asarray([1e-12])] * 2
            region = region_of(case, nothing, (0.1, 0.1))
            gradient = gradient_of(region, weight, action, (np.zeros(1), np.log([0.3])))
            found = root(gradient, np.array([0.1, np.log(0.3)]), tol=1e-12).x
        np.testing.assert_allclose(found[0], m, rtol=0.01)
        np.testing.assert_allclose(np.exp(2 * found[1]), wanted, rtol=0.01)
        assert (np.exp(2 * found[1]) > 0.09) == (case == "per-dimension")


def test_equal_values_pull_the_policy_nowhere_on_average():
    old = Table(jnp.asarray([[0.4, -0.3]]), jnp.asarray([[-0.5, 0.1]]))
    prior = held(old, old)
    region = region_of("per-dimension", [jnp.ones(2), jnp.ones(2)], (0.1, 0.1))

    def gradient(key):
        noise = jax.random.normal(key, (1, 20, 2))
        draws = Draws(old.mu[:, None] + jnp.exp(old.log_sigma)[:, None] * noise, jnp.full((1, 20), 0.05), noise[..., 0])
        return region.descend(prior, draws, None, jnp.eye(1))[0].pending.gradient

    grads = np.asarray(rows.compiled(jax.vmap(gradient))(jax.random.split(make_key(0), 4000)))
    assert (np.abs(grads.mean(0)) < 4 * grads.std(0) / np.sqrt(4000)).all()
    assert grads.std(0).min() > 0.1


def test_the_second_objective_pulls_outside_actions_in():
    box = inside_box(1e-3, 0.5)
    inside = jnp.asarray([[0.9, -1.0], [0.0, 0.3], [1.0, 1.0]])
    np.testing.assert_allclose(box(inside), np.log(1 / 3), rtol=1e-6)
    outside = jnp.asarray([[0.9, 0.0], [1.3, -1.4], [4.0, 0.0]])
    distance = np.array([0.0, 0.5, 3.0])
    np.testing.assert_allclose(np.exp(box(outside)), np.exp(-distance / 0.5) / np.exp(-distance / 0.5).sum(), rtol=1e-5)

    region = region_of("per-dimension", [jnp.ones(2), jnp.ones(2)], (0.1, 0.1), box)
    draws = Draws(outside[None], jnp.full((1, 3), 1 / 3), jnp.zeros((1, 3)))
    log_weight = region.inside(draws)
    old = Table(jnp.asarray([[2.0, 0.0]]), jnp.zeros((1, 2)))
    gradient = lambda inside: region.descend(held(old, old), draws, inside, jnp.eye(1))[0].pending.gradient
    plain, pulled = (np.asarray(rows.compiled(gradient)(inside)) for inside in (None, log_weight))
    pull = 2.0 - np.exp(np.asarray(log_weight[0])) @ np.asarray(outside[:, 0])
    np.testing.assert_allclose(pulled[0] - plain[0], pull, rtol=1e-5)  # towards the box: it lowers μ from 2
    assert pull > 0.5
    kl = kl_to_equal(log_weight[0])
    loss = lambda region: region.loss({name: jnp.full(2, 0.1) for name in region.multipliers}, log_weight)[0]
    grad = rows.compiled(jax.grad(loss))(region)
    np.testing.assert_allclose(grad.box.temperature.log_alpha, [0.5 * (1e-3 - float(kl))], rtol=1e-4)
    np.testing.assert_allclose(grad.multipliers["mean"].log_alpha, 0.0, atol=1e-8)


def test_a_learned_region_holds_its_bounds():
    """Repeated steps on one state: each KL ends at its own bound, with the multipliers' own optimiser."""
    action, weight = jnp.asarray([[[0.9, -0.8], [-0.5, 0.9], [0.7, 0.6]]]), jnp.asarray([[0.7, 0.2, 0.1]])
    old = Table(jnp.zeros((1, 2)), jnp.full((1, 2), -0.5))
    region = regions.trust_region(Normal(jnp.zeros(2), jnp.zeros(2)), [(2.5e-3, 10.0), (1e-4, 1000.0)])
    learned = learn(region, bounded_adam(1e-2, *LOG_ALPHA_BOUNDS))
    prior = replace(learn(old, adam(1e-3)), target=jax.tree.map(jnp.copy, old), tau=0.0)
    draws = Draws(action, weight, jnp.zeros((1, 3)))

    def step(state, _):
        prior, learned = state
        prior, (means, _) = learned.model.descend(prior, draws, None, jnp.eye(1))
        learned = learned.descend(lambda region: region.loss(means, None))[0]
        return (prior.step(jnp.asarray(True)), learned.step(jnp.asarray(True))), means

    means = rows.compiled(lambda state: jax.lax.scan(step, state, None, 6000))((prior, learned))[1]
    late = {name: np.asarray(mean)[-1000:].mean(0) for name, mean in means.items()}
    np.testing.assert_allclose(late["mean"], 2.5e-3, rtol=0.05)
    np.testing.assert_allclose(late["scale"], 1e-4, rtol=0.05)
