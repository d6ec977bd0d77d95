"""Priors that several tasks share: their powers, what they see, how they are distilled, and rows that have them."""

import functools as ft
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict
from jax.flatten_util import ravel_pytree
from scipy.special import logsumexp

from estep import DefaultPolicy, Distral, Hierarchical, Spec, Transition, make_key
from estep.algorithms.several_tasks.parts import price_of, value_without_entropy
from estep.core import em
from estep.core.batch import flatten
from estep.core.bootstrap import slow_posterior_value
from estep.core.learned import fixed, learn
from estep.core.objective import soft_value
from estep.core.optim import adam
from estep.core.slots import Draws, Problem
from estep.core.types import Identity, OneHot, Tanh
from estep.envs.base import names_of
from estep.envs.observations import observation_space
from estep.errors import UsageError
from estep.families.categorical import Categorical, Softmax
from estep.families.gaussian import Normal, gaussian_kl
from estep.inference.closed_form import Exact
from estep.inference.columns import TwoColumns, product
from estep.instruments.quadrature import exact as exact_quadrature
from estep.m_steps.distil import Distil
from estep.nets import OwnHeads, soft_bound
from estep.priors.flat import Flat
from estep.priors.gaussian import FixedGaussian
from estep.priors.network import gaussian_network
from estep.priors.restricted import places, restricted
from estep.priors.tempered import Tempered
from estep.runs.leaves import skeleton
from estep.training.scale import note_agent
from oracles import quadrature, rows, tabular
from oracles.known import Known, Tabular

SPEC = Spec(obs_dim=5, action_dim=2, tasks=2)
CHOICES = Spec(obs_dim=5, action_dim=3, squash=OneHot(), tasks=2)
BASE, ALPHA = FixedGaussian(jnp.asarray([0.3]), jnp.asarray([0.7])), 0.4
OBS, KEY = jnp.zeros(3), make_key(0)
SMALL = {"hidden_sizes": (8,)}


@ft.cache
def start(row, spec=SPEC):
    """A fresh agent."""
    return rows.compiled(lambda key: row.init(spec, key))(KEY)


def hill(a):
    return np.cos(3 * a) - a


# A power of a prior


def posterior_over_a(share):
    """α log Z, E[a] and E[a²] of p(a)^share exp(Q/α), p the density over a, by nodes on the box."""
    a, w = quadrature.LEGENDRE
    u = np.arctanh(a)
    log_p = -0.5 * ((u - 0.3) / 0.7) ** 2 - np.log(0.7) - 0.5 * np.log(2 * np.pi) - np.log1p(-a * a)
    log_weight = np.log(w) + share * log_p + hill(a) / ALPHA
    log_z = logsumexp(log_weight)
    return ALPHA * log_z, *(np.exp(log_weight - log_z) @ moment for moment in (a, a * a))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5, 1.0])
def test_the_tempered_posterior_is_that_of_the_density_over_the_action(share):
    """The library's densities are over u: here they are integrated over u."""
    with jax.enable_x64(True):
        wide = FixedGaussian(jnp.asarray([0.3], jnp.float64), jnp.asarray([0.7], jnp.float64))
        u = jnp.linspace(-16.0, 16.0, 20_001, dtype=jnp.float64)
        log_p = np.asarray(jax.vmap(Tempered(wide, Tanh(), share)(jnp.zeros(3)).log_prob)(u[:, None]))
    a = np.tanh(np.asarray(u))
    log_weight = log_p + hill(a) / ALPHA + np.log(u[1] - u[0])
    log_z = logsumexp(log_weight)
    found = ALPHA * log_z, *(np.exp(log_weight - log_z) @ moment for moment in (a, a * a))
    np.testing.assert_allclose(found, posterior_over_a(share), atol=1e-6)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_quadrature_of_a_run_measures_under_a_tempered_prior(share):
    with jax.enable_x64(True):
        wide = FixedGaussian(jnp.asarray([0.3], jnp.float64), jnp.asarray([0.7], jnp.float64))
        value = lambda problem, u, key: jnp.cos(3 * jnp.tanh(u[0])) - jnp.tanh(u[0])
        problem = Problem(jnp.zeros(3), Tempered(wide, Tanh(), share), value, jnp.asarray(ALPHA, jnp.float64))
        q = Normal(jnp.asarray([-0.2], jnp.float64), jnp.asarray([-0.7], jnp.float64))
        found = rows.compiled(lambda: exact_quadrature(problem, q, q, 128))()
    np.testing.assert_allclose(found.evidence, posterior_over_a(share)[0], atol=1e-6)
    np.testing.assert_allclose(found.evidence - found.value, found.divergence, atol=1e-6)


def test_a_share_of_one_is_the_base_and_of_nothing_is_flat():
    u = jnp.asarray([[-2.0], [0.1], [30.0]])
    spec, q = Spec(3, 1), Normal(jnp.asarray([0.2]), jnp.asarray([-0.5]))
    for share, prior in ((1.0, BASE), (0.0, Flat(spec))):
        tempered = Tempered(BASE, Tanh(), share)
        np.testing.assert_array_equal(*(jax.vmap(p(OBS).log_prob)(u) for p in (tempered, prior)))
        jax.tree.map(np.testing.assert_array_equal, *(q.draw(KEY, 3, p(OBS)) for p in (tempered, prior)))
        near = Tempered(BASE, Tanh(), abs(share - 1e-6))
        np.testing.assert_allclose(*(jax.vmap(p(OBS).log_prob)(u[:2]) for p in (near, prior)), atol=1e-4)


def test_a_tempered_prior_says_that_it_cannot_be_sampled():
    density = Tempered(BASE, Identity(), 0.5)(OBS)
    for call in (lambda: density.sample(KEY), lambda: density.draw(KEY, 2, density)):
        with pytest.raises(UsageError, match=r"tempered prior has no .*not normalised") as error:
            call()
        assert "its base" in error.value.fix
    np.testing.assert_array_equal(density.mode(), jnp.asarray([0.3]))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_between_nothing_and_all(share):
    with pytest.raises(UsageError, match="not between 0 and 1"):
        Tempered(BASE, Tanh(), share)


# What a prior sees


def test_what_a_prior_sees_is_named_by_places_ranges_and_words():
    assert places(SPEC, ("state",)) == (0, 1, 2)
    assert places(SPEC, ("all",)) == (0, 1, 2, 3, 4)
    assert places(SPEC, ("nothing",)) == ()
    assert places(SPEC, ("4", "0:2")) == (0, 1, 4)
    assert places(Spec(3, 2), ("state",)) == (0, 1, 2)


def test_what_a_prior_sees_is_named_by_the_keys_of_a_dict():
    space = observation_space(Dict(arm=Dict(angle=Box(-1, 1, (2,)), speed=Box(-1, 1, (1,))), aim=Box(-1, 1, (1,))), "")
    spec = Spec(6, 1, tasks=2, names=names_of(space))
    assert spec.names == (("arm.angle", 2), ("arm.speed", 1), ("aim", 1))
    assert places(spec, ("arm",)) == (0, 1, 2)
    assert places(spec, ("aim", "arm.speed", "5")) == (2, 3, 5)
    with pytest.raises(UsageError, match=r"'leg'.*name") as error:
        places(spec, ("leg",))
    assert "arm.angle, arm.speed, aim" in error.value.fix
    with pytest.raises(UsageError, match="twice"):
        places(spec, ("arm", "arm.angle"))


@pytest.mark.parametrize(
    ("sees", "said"),
    [
        ((), "is empty"),
        (("5",), "the place 5, and an observation has the places 0 to 4"),
        (("2:9",), "the place 8"),
        (("3:3",), "which is empty"),
        (("4:2",), "which is empty"),
        (("1", "0:2"), "a place twice"),
        (("-1",), "no place, range or name"),
        (("velocity",), "no place, range or name"),
        (("state", "4"), "no place, range or name"),
        (("1" * 10,), "no place, range or name"),
    ],
)
@pytest.mark.parametrize("kind", [Distral, DefaultPolicy])
def test_what_the_observation_has_not_is_refused(kind, sees, said):
    row = kind(**SMALL, prior_sees=sees)
    with pytest.raises(UsageError, match=said) as error:
        row.init(SPEC, KEY)
    assert "--prior-sees" in error.value.what
    assert error.value.fix


def test_it_is_said_that_a_prior_which_sees_the_task_has_no_effect():
    said = []
    for sees in (("state",), ("0:5",)):
        note_agent(skeleton(Distral(**SMALL, prior_sees=sees), SPEC), False, said.append)
    note_agent(skeleton(DefaultPolicy(**SMALL, freeze_prior="run"), Spec(5, 2)), False, said.append)
    for latent_prior in ("normal", "learned"):
        row = Hierarchical(**SMALL, prior_sees=("all",), latent_prior=latent_prior)
        note_agent(skeleton(row, SPEC), False, said.append)
    assert len(said) == 2
    assert all("the KL goes to 0" in one for one in said)


# Distillation

X = np.array([-1.0, 1.0])
STATES = jnp.asarray([[x, *task] for x in X for task in np.eye(2)], jnp.float32)
MEAN, SIGMA = 0.3 * np.repeat(X, 2) + np.tile([0.8, -0.8], 2), 0.3
"""Of the policies: two tasks that are mirrored but for what the state says."""
NODES, WEIGHTS = (np.asarray(x, np.float32) for x in np.polynomial.hermite_e.hermegauss(5))
EXACT = Draws(
    jnp.asarray(MEAN[:, None, None] + SIGMA * NODES[None, :, None], jnp.float32),
    jnp.asarray(np.tile(WEIGHTS / WEIGHTS.sum(), (4, 1))),
    jnp.zeros((4, 5)),
)
"""So weighted, mean and variance are exact."""


@pytest.mark.parametrize("sees", ["state", "nothing", "all"])
def test_the_prior_is_the_gaussian_of_the_mixture_of_what_looks_the_same(sees):
    spec = Spec(obs_dim=3, action_dim=1, tasks=2)
    make = lambda seen: gaussian_network(seen, (16,), 0.5, key=KEY)
    prior = learn(restricted(spec, (sees,), make), adam(1e-2))

    @rows.compiled
    def fit(prior):
        step = lambda prior, _: (Distil()(prior, EXACT, STATES)[0].step(jnp.asarray(True)), None)
        return jax.lax.scan(step, prior, None, 2_000)[0]

    p = jax.vmap(fit(prior).model)(STATES)
    same = {"state": X.repeat(2), "nothing": np.zeros(4), "all": np.arange(4)}[sees]
    for i in range(4):
        alike = same == same[i]
        mean, variance = MEAN[alike].mean(), SIGMA**2 + MEAN[alike].var()
        np.testing.assert_allclose(p.mu[i, 0], mean, atol=0.02 * np.sqrt(variance))
        np.testing.assert_allclose(np.exp(2 * p.log_sigma[i, 0]), variance, rtol=0.02)
    policies = Normal(jnp.asarray(MEAN[:, None], jnp.float32), jnp.full((4, 1), np.log(SIGMA), jnp.float32))
    kl = np.asarray(jax.vmap(gaussian_kl)(policies, p))
    assert (kl < 1e-3).all() == (sees == "all")  # a prior that sees everything follows, and the KL is gone


def batch(spec, length=1):
    """Steps of both tasks, half of each."""
    rng, shape = np.random.default_rng(0), (4, length)
    task = np.broadcast_to(np.eye(2)[[0, 1, 0, 1]][:, None], (*shape, 2))
    obs, after = (np.concatenate([rng.normal(size=(*shape, 3)), task], -1).astype(np.float32) for _ in range(2))
    action = np.eye(3)[rng.integers(3, size=shape)] if spec.factors else rng.normal(size=(*shape, 2))
    one = jnp.ones(shape)
    return Transition(jnp.asarray(obs), jnp.asarray(action, jnp.float32), one, one, jnp.asarray(after), 0 * one)


def test_distillation_moves_the_prior_itself_and_not_the_policy():
    agent, seen = start(Distral(**SMALL)), flatten(batch(SPEC))

    def fit(base, draws):
        return jax.vmap(lambda s, d: d.weight @ jax.vmap(base(s).log_prob)(d.action))(seen.obs, draws).mean()

    @rows.compiled
    def both_steps(agent):
        after, draws, _, _ = agent.e_step(agent, batch(SPEC), KEY)
        done, info = em.m_step(after, draws, seen)
        value, gradient = jax.value_and_grad(fit)(agent.prior.model.base, draws)
        return after.inference.pending, done, info["m/fit"], value, ravel_pytree(gradient)[0]

    alone, done, found, value, gradient = both_steps(agent)
    np.testing.assert_array_equal(done.inference.pending.gradient, alone.gradient)
    np.testing.assert_allclose(done.prior.pending.gradient, -gradient, atol=1e-6)
    assert jax.tree.structure(done.prior.step(jnp.asarray(True))) == jax.tree.structure(agent.prior)
    np.testing.assert_allclose(found, value, rtol=1e-5)


# Distral

STATES_, ACTIONS, C_KL, C_ENT = 4, 3, 0.3, 0.2
SHARE, PRICE = C_KL / (C_KL + C_ENT), C_KL + C_ENT


@rows.compiled
def library_e_step(q, log_p):
    """V and log π of every state."""

    def one(obs):
        tempered = Tempered(Known(log_p), OneHot(), SHARE)
        problem = Problem(obs, tempered, Tabular(q), jnp.asarray(PRICE, q.dtype))
        found = Softmax(q.shape[1])(Exact()(problem, Softmax(q.shape[1]), KEY).lam)
        return soft_value(found, problem, KEY)[0], found.log_probs

    return jax.vmap(one)(jnp.eye(len(q)))


def exact(q, log_p):
    """The same in float64, as arrays of NumPy."""
    with jax.enable_x64(True):
        return tuple(np.asarray(x) for x in library_e_step(jnp.asarray(q), jnp.asarray(log_p)))


def soft_optimum(m, log_p, rounds=400):
    """V_i and log π_i of (17), by the library's E-step."""
    value = np.zeros(len(m.p))
    for _ in range(rounds):
        q = m.reward + tabular.onward(m, value)
        value, log_pi = exact(q, log_p)
    return value, log_pi, q


@pytest.mark.parametrize("seed", range(2))
def test_the_value_is_what_the_policy_gets_less_both_prices(seed):
    """r - c_KL log π/p_0 - c_Ent log π summed over time, solved as linear equations."""
    log_p = np.log(tabular.policy(seed + 5, STATES_, ACTIONS))
    for task in range(2):
        m = tabular.problem(10 * seed + task, STATES_, ACTIONS)
        value, log_pi, q = soft_optimum(m, log_p)
        formula = PRICE * logsumexp(SHARE * log_p + q / PRICE, axis=1)
        np.testing.assert_allclose(value, formula, atol=1e-9)
        pi = np.exp(log_pi)
        cost = (pi * (C_KL * (log_pi - log_p) + C_ENT * log_pi)).sum(1)
        np.testing.assert_allclose(tabular.evaluate(m, pi, cost)[1], value, atol=1e-9)


def corridor(goal):
    """Three places in a row, then a place with an arm on either side; actions are left, right and on."""
    p = np.zeros((6, 3, 6))
    for s in range(6):
        p[s, :, s] = 1.0
    for s in range(3):
        p[s, 2] = np.eye(6)[s + 1]
    p[3, 0], p[3, 1] = np.eye(6)[4], np.eye(6)[5]
    return tabular.MDP(p, np.full((6, 3), -1.0), (np.arange(6) == goal).astype(float), 0.0, 0.95)


def test_in_a_corridor_the_prior_goes_on_and_at_the_split_it_has_no_side():
    log_p = np.log(np.full((6, 3), 1 / 3))
    for _ in range(10):
        found = [np.exp(soft_optimum(corridor(goal), log_p, 150)[1]) for goal in (4, 5)]
        log_p = np.log(np.mean(found, axis=0))
    p = np.exp(log_p)
    assert (p[:3, 2] > 0.9).all()
    np.testing.assert_allclose(p[3, 0], p[3, 1], atol=1e-9)
    assert p[3, 0] > 0.45
    assert found[0][3, 0] > 0.9  # the policies do have a side


def test_two_columns_multiply_a_power_of_the_prior_by_what_the_task_adds():
    agent, obs = start(Distral(**SMALL)), batch(SPEC).obs[0, 0]
    lam = agent.inference.model(agent.problem(None, obs), agent.posterior, KEY).lam
    q, p = Normal(*jnp.split(lam, 2)), agent.prior.slow.base(obs)
    mu, raw = jnp.split(agent.inference.model.net(obs), 2)
    f = Normal(mu, soft_bound(raw, jnp.full(2, -10.0), jnp.full(2, 2.0)))
    points = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)), jnp.float32)
    rest = jax.vmap(lambda u: q.log_prob(u) - 0.5 * p.log_prob(u) - f.log_prob(u))(points)
    np.testing.assert_allclose(rest, rest[0], atol=1e-4)  # a constant
    np.testing.assert_allclose(product(p, 0.0, f), jnp.concatenate([f.mu, f.log_sigma]), rtol=1e-5)


def test_over_several_choices_columns_add_up():
    p, net = jnp.log(jnp.asarray([0.5, 0.3, 0.2])), lambda obs: jnp.asarray([0.1, 0.0, 2.0])
    prior = Tempered(Known(jnp.tile(p, (3, 1)) * 1.0), OneHot(), 0.25)
    problem = Problem(jnp.eye(3)[0], prior, None, jnp.asarray(1.0))
    lam = TwoColumns(net, 0.25)(problem, Softmax(3), KEY).lam
    np.testing.assert_allclose(lam, 0.25 * p + net(None), rtol=1e-6)


def test_policies_of_every_form_see_what_they_say():
    obs = batch(SPEC).obs[0, 0]
    other = obs.at[-2:].set(jnp.asarray([0.0, 1.0]))
    for policies in ("two-column", "one-column", "common"):
        agent = start(Distral(**SMALL, policies=policies))
        lam = [agent.inference.model(agent.problem(None, s), agent.posterior, KEY).lam for s in (obs, other)]
        assert bool((lam[0] == lam[1]).all()) == (policies == "common")
    assert isinstance(skeleton(Distral(**SMALL), CHOICES).inference.model, Exact)


def test_a_head_of_a_task_learns_from_its_own_states_alone():
    agent = start(Distral(**SMALL, heads="own"))
    net = agent.likelihood.model.members[0]
    assert isinstance(net, OwnHeads)
    obs, u = batch(SPEC).obs[0, 0], jnp.zeros(2)
    gradient = jax.grad(lambda net: net(obs, u)[0])(net).net
    assert (gradient.rest[-1][:, 0] != 0).any()
    assert not gradient.rest[-1][:, 1].any()
    swapped = obs.at[-2:].set(obs[-2:][::-1])
    turned = replace(net, net=replace(net.net, rest=(*net.net.rest[:-1], net.net.rest[-1][:, ::-1])))
    np.testing.assert_allclose(turned(swapped, u), net(obs, u), rtol=1e-6)


@pytest.mark.parametrize("kind", [Distral, DefaultPolicy])
def test_rows_about_tasks_refuse_one_and_prices_that_are_nothing(kind):
    with pytest.raises(UsageError, match="there is one environment"):
        kind(**SMALL).init(Spec(3, 2), KEY)
    with pytest.raises(UsageError, match="the temperature, is 0") as error:
        kind(kl_cost=0.0, entropy_cost=0.0)
    assert "1e-6" in error.value.fix
    with pytest.raises(UsageError, match="kl_cost"):
        kind(kl_cost=-1.0)
    with pytest.raises(UsageError, match="heads"):
        kind(heads="many")


@pytest.mark.parametrize(("kl", "entropy", "share"), [(0.0, 0.1, 0.0), (0.1, 0.0, 1.0), (0.3, 0.1, 0.75)])
def test_prices_become_a_temperature_and_a_share(kl, entropy, share):
    row = Distral(**SMALL, kl_cost=kl, entropy_cost=entropy)
    assert skeleton(row, CHOICES).prior.model.share == pytest.approx(share)
    assert float(price_of(row)(OBS)) == pytest.approx(kl + entropy)


# Default policies


def test_the_target_is_of_slow_copies_and_has_both_prices_or_that_of_the_kl_alone():
    agent = start(DefaultPolicy(**SMALL, kl_cost=0.3, entropy_cost=0.1), CHOICES)
    moved = replace(agent.inference, model=jax.tree.map(lambda leaf: leaf + 1.0, agent.inference.model))
    agent = replace(agent, inference=moved)
    step = jax.tree.map(lambda leaf: leaf[0, 0], batch(CHOICES))
    s = step.next_obs
    pi = Categorical(agent.inference.target(agent.problem(None, s), agent.posterior, KEY).lam)
    p = agent.prior.slow.base(s)
    q = jax.vmap(lambda a: agent.likelihood.slow.values(s, a).mean())(jnp.eye(3))
    probabilities = jnp.exp(pi.log_probs)
    kl, entropy = probabilities @ (pi.log_probs - p.log_probs), -probabilities @ pi.log_probs
    for form, bonus in ((slow_posterior_value, 0.1 * entropy), (value_without_entropy, 0.0)):
        value = form(agent).value(step, KEY)
        np.testing.assert_allclose(value, probabilities @ q - 0.3 * kl + bonus, rtol=1e-5)
    np.testing.assert_allclose(value_without_entropy(agent).penalty(step._replace(obs=s), KEY), 0.3 * kl, rtol=1e-4)


@pytest.mark.long
def test_a_prior_in_a_trust_region_stays_near_its_slow_copy():
    agent = start(DefaultPolicy(**SMALL, prior_fit="trust-region", target="td0"), CHOICES)
    step = rows.compiled(em.update)
    for i in range(2):
        agent, info = step(agent, batch(CHOICES), make_key(i))
    assert info["skipped"] == 0
    assert info["m/kl_policy"] > 0
    assert info["m/kl_policy_bound"] == pytest.approx(5e-3)


@pytest.mark.long
def test_a_frozen_prior_does_not_move_and_takes_one_task():
    agent = start(DefaultPolicy(**SMALL, freeze_prior="anything", target="td0"), Spec(5, 3, OneHot()))
    after, info = rows.compiled(em.update)(agent, batch(CHOICES), KEY)
    assert info["skipped"] == 0
    jax.tree.map(np.testing.assert_array_equal, after.prior.model, agent.prior.model)
    assert fixed(agent.prior.model).target is None
