"""The planner against exact tables: its weights are those of the optimal policy, with and without resampling."""

import functools as ft
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from estep.core.keys import make_key
from estep.core.model import Prediction
from estep.core.objective import soft_value
from estep.core.slots import Problem
from estep.core.types import Identity
from estep.e_steps.searches import gains
from estep.families.categorical import Categorical
from estep.families.gaussian import Normal
from estep.families.particles import exponential, kl_to_equal, of_roots, systematic
from estep.inference.smc import SMC, Swarm, World
from estep.priors.gaussian import FixedGaussian
from oracles import rows

STATES, ACTIONS, MEMBERS, ALPHA, GAMMA = 6, 4, 4, 0.5, 0.9
KINDS = ("deterministic", "stochastic", "terminating")


class Table(NamedTuple):
    """A finite problem whose members lead to one state each: P(s'|s, a) is the share of the members that lead there.
    States and actions are one-hot vectors."""

    after: jax.Array
    """[m, s, a]."""
    reward: jax.Array
    """[m, s, a]."""
    go_on: jax.Array
    """[m, s, a]."""

    @property
    def members(self):
        return MEMBERS

    def predict(self, obs, action, member):
        at = member, obs.argmax(), action.argmax()
        mean = jax.nn.one_hot(self.after[at], STATES, dtype=obs.dtype)
        return Prediction(mean, jnp.zeros_like(mean), self.reward[at], self.go_on[at])


def table(kind, seed=0):
    """A random problem. Deterministic: members agree. Terminating: episodes end for sure, or with some probability."""
    rng = np.random.default_rng(seed)
    shape = (MEMBERS, STATES, ACTIONS)
    after, reward, go_on = rng.integers(STATES, size=shape), rng.normal(size=shape), np.ones(shape)
    if kind == "deterministic":
        after, reward = (np.broadcast_to(each[:1], shape) for each in (after, reward))
    if kind == "terminating":
        go_on = rng.choice([0.0, 0.3, 1.0, 1.0], size=shape)
    return Table(*(jnp.asarray(each) for each in (after, reward, go_on)))


class Solved(NamedTuple):
    value: np.ndarray
    """V*(s)."""
    policy: np.ndarray
    """log π*(a|s)."""
    prior: np.ndarray
    """log p(a|s)."""


@ft.cache
def solved(kind, gamma=GAMMA):
    """The optimal soft values of a problem, in float64."""
    with jax.enable_x64(True):
        after, reward, go_on = (np.asarray(each) for each in table(kind))
    prior = np.log(np.random.default_rng(1).dirichlet(3 * np.ones(ACTIONS), STATES))
    value = np.zeros(STATES)
    for _ in range(600):
        q = (reward + gamma * go_on * value[after]).mean(0)
        value = ALPHA * logsumexp(prior + q / ALPHA, axis=1)
    return Solved(value, log_softmax(prior + q / ALPHA, axis=1), prior)


def world(tables, value, log_q, log_p, alpha=ALPHA):
    """A table with any values and any proposal."""
    row = lambda logs: lambda obs: Categorical(obs @ logs)
    return World(tables, row(log_q), row(log_p), lambda obs, key: obs @ value, jnp.asarray(alpha), Identity())


def of_table(kind):
    """The world of a problem with its optimal values, and a uniform proposal."""
    exact = solved(kind)
    uniform = np.full((STATES, ACTIONS), -np.log(ACTIONS))
    return table(kind), *(jnp.asarray(each) for each in (exact.value, uniform, exact.prior))


@ft.cache
def searcher(search, count):
    """Many searches from one state, compiled."""

    def many(state, key, *tables):
        start = jax.nn.one_hot(state, STATES, dtype=tables[1].dtype)
        return jax.vmap(lambda key: search(world(*tables), start, key))(jax.random.split(key, count))

    return rows.compiled(many)


def chosen(found):
    """The weights of each choice in each search, [searches, actions]."""
    return np.einsum("sn,sna->sa", np.exp(np.asarray(found.log_weight)), np.asarray(found.action))


@pytest.fixture(scope="module")
def advance():
    """One step of particles in all states, with the whole weight and with a power of it; compiled for all problems."""

    def one(swarm, key, number, *tables):
        step = lambda power: SMC(len(swarm.root), 1, GAMMA, power=power).advance(world(*tables), swarm, (number, key))
        after, (u, _, _) = step(1.0)
        return after, step(0.25)[0], u

    return rows.compiled(one)


def swarm_in_all_states(value, each=8):
    n = STATES * each
    obs, nought = jnp.tile(jnp.eye(STATES, dtype=value.dtype), (each, 1)), jnp.zeros(n, value.dtype)
    alive = jnp.arange(n) < n - STATES
    return Swarm(obs, obs @ value, alive, nought, jnp.arange(n), nought, jnp.asarray(True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_is_the_ratio_of_the_optimal_policy_to_the_proposal(kind, advance):
    with jax.enable_x64(True):
        tables, exact = of_table(kind), solved(kind)
        before = swarm_in_all_states(tables[1])
        after, soft, u = advance(before, make_key(0), jnp.asarray(0), *tables)
    state, choice = np.asarray(before.obs).argmax(1), np.asarray(u).argmax(1)
    wanted = np.where(before.alive, exact.policy[state, choice] + np.log(ACTIONS), 0.0)
    assert np.abs(np.asarray(after.log_weight) - wanted).max() < 1e-12
    assert np.abs(np.asarray(after.advantage) - ALPHA * wanted).max() < 1e-12
    assert not (np.asarray(after.alive) & ~np.asarray(before.alive)).any()  # the dead stay dead
    ended = (np.asarray(before.alive) & ~np.asarray(after.alive)).any()
    assert ended == (kind == "terminating")
    np.testing.assert_allclose(soft.log_weight, 0.25 * np.asarray(after.log_weight), atol=1e-12)
    np.testing.assert_array_equal(soft.advantage, after.advantage)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_is_that_ratio_after_resampling_too(kind):
    """The particles that are resampled have equal weights, and then each has the weight of its new state and action."""
    with jax.enable_x64(True):
        tables, exact = of_table(kind), solved(kind)
        before = swarm_in_all_states(tables[1])
        before = before._replace(log_weight=0.3 * jnp.sin(jnp.arange(len(before.root)).astype(before.value.dtype)))
        step = lambda swarm, key, *tables: SMC(len(swarm.root), 2, GAMMA, "every").advance(
            world(*tables), swarm, (jnp.asarray(1), key)
        )
        after, (u, _, turn) = rows.compiled(step)(before, make_key(0), *tables)
    assert turn
    from_ = np.asarray(after.root)
    assert len(set(from_)) < len(from_)
    state, choice = np.asarray(before.obs).argmax(1)[from_], np.asarray(u).argmax(1)
    alive = np.asarray(before.alive)[from_]
    wanted = np.where(alive, exact.policy[state, choice] + np.log(ACTIONS), 0.0)
    mean = logsumexp(np.asarray(before.log_weight)) - np.log(len(from_))
    assert np.abs(np.asarray(after.log_weight) - mean - wanted).max() < 1e-12
    assert (np.asarray(after.advantage) == 0).all()  # of the roots, up to the first resampling
    assert not after.untouched


@pytest.mark.parametrize(
    ("kind", "resample"),
    [
        ("stochastic", "every"),
        ("terminating", "every"),
        pytest.param("deterministic", "every", marks=pytest.mark.long),
        *(pytest.param(kind, rule, marks=pytest.mark.long) for kind in KINDS for rule in ("ess", "never")),
    ],
)
def test_the_evidence_is_one_on_average_and_the_roots_are_those_of_the_optimal_policy(kind, resample):
    searches, state = 60, 2
    with jax.enable_x64(True):
        found = searcher(SMC(1000, 5, GAMMA, resample), searches)(state, make_key(1), *of_table(kind))
    evidence = np.exp(np.asarray(found.log_evidence))
    assert abs(evidence.mean() - 1) < 3 * evidence.std(ddof=1) / np.sqrt(searches)
    share = chosen(found)
    assert np.abs(share.sum(1) - 1).max() < 1e-9
    distance = 0.5 * np.abs(share.mean(0) - np.exp(solved(kind).policy[state])).sum()
    assert distance < 0.02
    alone = log_softmax(np.asarray(found.advantage) / ALPHA, axis=1)
    apart = np.abs(np.asarray(found.log_weight) - alone).max()
    assert apart < 1e-9 if resample == "never" else apart > 0.1  # advantages stop at the first resampling
    turns = np.asarray(found.resampled)
    assert not turns[:, 0].any()
    assert turns[:, 1:].all() if resample == "every" else (resample == "ess" or not turns.any())


@pytest.mark.long
def test_one_draw_of_a_stochastic_model_is_optimistic():
    """exp of a sampled value has a larger mean than exp of the mean value; without chance they are equal."""
    mean = {}
    with jax.enable_x64(True):
        for kind in ("deterministic", "stochastic"):
            search = SMC(400, 1, GAMMA, dynamics="optimistic")
            found = searcher(search, 60)(2, make_key(1), *of_table(kind))
            mean[kind] = np.exp(np.asarray(found.log_evidence)).mean()
    assert abs(mean["deterministic"] - 1) < 0.02 < 0.1 < mean["stochastic"] - 1


@pytest.mark.long
def test_without_values_the_full_horizon_solves_a_problem():
    """γ = 1, V = 0 and as many steps as the episode has: the heaviest root begins the best path from every state."""
    steps, best = 4, np.zeros(STATES)
    with jax.enable_x64(True):
        tables = table("deterministic", seed=3)
        after, reward = np.asarray(tables.after[0]), np.asarray(tables.reward[0])
        for _ in range(steps):
            returns = reward + best[after]
            best = returns.max(1)
        tables = tables._replace(reward=3 * tables.reward)
        uniform = jnp.full((STATES, ACTIONS), -np.log(ACTIONS))
        search = searcher(SMC(1000, steps, 1.0, "every"), 10)
        for state in range(STATES):
            found = search(state, make_key(state), tables, jnp.zeros(STATES), uniform, uniform)
            assert chosen(found).mean(0).argmax() == returns[state].argmax()


@pytest.mark.long
def test_kl_is_of_roots_and_not_of_particles():
    log_weight, root = jnp.log(jnp.asarray([0.25, 0.25, 0.25, 0.25])), jnp.asarray([0, 0, 0, 3])
    roots = of_roots(log_weight, root)
    np.testing.assert_allclose(np.exp(roots), [0.75, 0, 0, 0.25], atol=1e-6)
    assert float(kl_to_equal(log_weight)) == pytest.approx(0.0, abs=1e-6)
    assert float(kl_to_equal(roots)) == pytest.approx(0.75 * np.log(3) + 0.0, abs=1e-6)
    assert np.isnan(np.asarray(of_roots(jnp.asarray([0.0, jnp.nan]), jnp.asarray([0, 1])))).any()


def test_systematic_resampling_is_unbiased_and_spares_those_without_weight():
    log_weight = jnp.log(jnp.asarray([0.0, 0.55, 0.25, 0.2, 0.0]))
    drawn = jax.vmap(systematic, (None, 0))(log_weight, jax.random.split(make_key(0), 4000))
    counts = np.stack([(np.asarray(drawn) == i).sum(1) for i in range(5)], axis=1)
    wanted = 5 * np.exp(np.asarray(log_weight))
    assert (np.abs(counts - wanted) < 1 + 1e-6).all()
    np.testing.assert_allclose(counts.mean(0), wanted, atol=0.03)


class Line(NamedTuple):
    """A linear model with noise: s' ~ N(s + a, σ²), r = -(s + a)²/2, without end."""

    std: jax.Array
    members: int = 1

    def predict(self, obs, action, member):
        mean = obs + action
        return Prediction(mean, jnp.full_like(mean, self.std), -0.5 * (mean @ mean), jnp.ones((), obs.dtype))


def line(value, std=0.1, alpha=1.0):
    proposal = lambda obs: Normal(0.3 * obs, jnp.full_like(obs, -1.0))
    return World(Line(jnp.asarray(std)), proposal, proposal, value, jnp.asarray(alpha), Identity())


@pytest.mark.long
def test_luck_that_all_particles_share_is_no_weight():
    """Where all states are alike, values from one sample of the policy leave equal weights."""
    prior = FixedGaussian(jnp.zeros(1), jnp.ones(1))
    q_hat = lambda problem, u, key: 3.0 * jnp.sin(u[0])

    def value(obs, key):
        return soft_value(prior(obs), Problem(obs, prior, q_hat, jnp.ones(())), key)[0]

    class Alike(NamedTuple):
        members: int = 1

        def predict(self, obs, action, member):
            return Prediction(obs + action, jnp.ones(1), jnp.zeros(()), jnp.ones(()))

    common = World(Alike(), prior, prior, value, jnp.asarray(1.0), Identity())
    own = common._replace(value=lambda obs, key: value(obs, jax.random.fold_in(key, (1e4 * obs[0]).astype(int))))
    kinds = (common, "ess"), (own, "ess"), (common, "every")
    sizes = lambda key: [SMC(50, 4, 0.9, rule)(each, jnp.zeros(1), key).ess for each, rule in kinds]
    size = rows.compiled(sizes)(make_key(0))
    np.testing.assert_allclose(size[0], 50.0, rtol=1e-5)
    assert (np.asarray(size[1]) < 25).any()
    np.testing.assert_allclose(size[2], 50.0, rtol=1e-5)


class Lucky(NamedTuple):
    """Each member leads to its number, with noise, and episodes end with probability ½."""

    std: jax.Array
    members: int = 3

    def predict(self, obs, action, member):
        return Prediction(jnp.full_like(obs, member), self.std, jnp.zeros(()), jnp.full((), 0.5))


def test_luck_of_a_particle_is_a_weight_only_if_dynamics_are_optimistic():
    """Where no action does anything, values of noisy states leave equal weights, and all particles live or end."""
    still = lambda obs: Normal(jnp.zeros(1), jnp.full(1, -30.0))
    lucky = World(Lucky(jnp.ones(1)), still, still, lambda obs, key: 5.0 * obs[0], jnp.asarray(1.0), Identity())
    searches = [SMC(50, 4, 0.9), SMC(50, 4, 0.9, members=1), SMC(50, 4, 0.9, dynamics="optimistic")]
    sizes = rows.compiled(lambda key: [search(lucky, jnp.zeros(1), key).ess for search in searches])(make_key(0))
    for size in sizes[:2]:
        np.testing.assert_allclose(size, 50.0, rtol=1e-4)
    assert float(sizes[2][0]) < 10


def test_each_step_asks_as_many_members_as_are_wanted():
    """The target is the mean over the members that are asked, others with another key; the state is that of one."""
    value, obs, u = (lambda obs, key: obs[0]), jnp.zeros((4, 1)), jnp.zeros((4, 1))
    world = World(Lucky(jnp.zeros(1)), None, None, value, jnp.asarray(1.0), Identity())
    for members, wanted in ((0, {1.0}), (3, {1.0}), (1, {0.0, 1.0, 2.0}), (2, {0.5, 1.0, 1.5})):
        search = SMC(4, 1, 1.0, members=members)
        found = rows.compiled(jax.vmap(lambda key, search=search: search.imagine(world, obs, u, key)))(
            jax.random.split(make_key(0), 40)
        )
        target = 2 * np.asarray(found.target)
        assert {round(float(each), 3) for each in target[:, 0]} == wanted
        assert {round(float(each), 3) for each in found.value[:, 0]} == {0.0, 1.0, 2.0}
        np.testing.assert_array_equal(target, target[:, :1] + np.zeros(4))


def test_one_step_is_the_e_step_of_mpo():
    """Weights are the softmax of Q/η with Q = E[r + γ c V], to the last digit; resampling cannot touch them."""
    value = lambda obs, key: -(obs @ obs)
    with jax.enable_x64(True):
        line_world = line(value, std=0.0)
        search = SMC(20, 1, GAMMA, "every")
        found = rows.compiled(lambda key: search(line_world, jnp.asarray([0.7]), key))(make_key(0))
        ahead = 0.7 + np.asarray(found.action)[:, 0]
        q = jnp.asarray(-0.5 * ahead**2 - GAMMA * ahead**2)
        log_weight = exponential(q, jnp.asarray(1.0))
        np.testing.assert_allclose(found.log_weight, log_weight, atol=1e-12)
        np.testing.assert_allclose(found.advantage, np.asarray(q) + 0.49, atol=1e-12)
        kl = float(kl_to_equal(exponential(found.advantage, jnp.asarray(1.0))))
        assert kl == pytest.approx(float(kl_to_equal(log_weight)), abs=1e-12)


def test_a_search_compiles_once_whatever_its_horizon_and_its_program_does_not_grow():
    sizes = []
    for steps in (2, 20):
        search = SMC(8, steps, GAMMA)
        traced = jax.make_jaxpr(lambda key, search=search: search(line(lambda obs, key: obs[0]), jnp.ones(1), key))
        sizes.append(len(str(traced(make_key(0)))))
    assert abs(sizes[1] - sizes[0]) < 100


@pytest.mark.long
@pytest.mark.parametrize(("gamma", "resample"), [(0.9, "never"), (0.5, "never"), (0.9, "every")])
def test_soft_values_of_searches_find_the_optimum_where_the_horizon_is_short_for_the_discount(gamma, resample):
    """V ← V + α log mean exp(Â/α): an error that all states share is multiplied by 1 - h (1 - γ) = .2 or -3 a time.

    Advantages end at the first resampling, so where there is one at every step h is 1 and the factor γ.
    """
    exact, steps = solved("stochastic", gamma), 8
    search = SMC(3000, steps, gamma, resample)

    def better(value, key):
        at = world(table("stochastic"), value, jnp.asarray(exact.prior), jnp.asarray(exact.prior))
        found = jax.vmap(lambda state: search(at, state, key).advantage)(jnp.eye(STATES))
        return value + gains(found, jnp.full(STATES, ALPHA))

    with jax.enable_x64(True):
        improved, value = rows.compiled(better), jnp.asarray(exact.value + 1.0)
        for t in range(6):
            value = improved(value, make_key(t))
    error = np.abs(np.asarray(value) - exact.value).max()
    if resample == "every":
        assert error == pytest.approx(gamma**6, abs=0.15)
    else:
        assert error < 0.15 if gamma == 0.9 else error > 20
