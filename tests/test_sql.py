"""Soft Q-learning: the sampler against densities that are known, the soft value, what each step touches."""

import functools as ft
from collections.abc import Callable
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.lax import stop_gradient as sg

from estep.algorithms.sql import SQL
from estep.core import acting, em
from estep.core.em import apply_pending
from estep.core.keys import make_key
from estep.core.learned import fixed
from estep.core.slots import Likelihood
from estep.core.types import Identity, OneHot, Spec, Transition
from estep.e_steps.stein import bandwidth, direction, score, stein_e_step
from estep.errors import UsageError
from estep.families.particles import Particles, exponential
from estep.inference.direct import Direct
from estep.nets import mlp
from oracles import rows

OBS = jnp.asarray([0.5, -1.0, 0.2])


def flat(a):
    return 0.0 * a[0]


def two_modes(a):
    return -jnp.minimum(jnp.square(a[0] - 0.6), jnp.square(a[0] + 0.6)) / 0.02


GOALS = 0.6 * jnp.asarray([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])


def four_goals(a):
    return -jnp.square(a[None] - GOALS).sum(1).min() / 0.04


class Known(Likelihood):
    """Q̂ of the action alone, the same for ever."""

    q: Callable[[jax.Array], jax.Array] = eqx.field(static=True)

    def __call__(self, problem, action, key):
        return self.q(jnp.tanh(action))

    def loss(self, batch, bootstrap, key):
        return jnp.zeros(()), {}


def agent_of(q, action=1, alpha=1.0, **changes):
    row = SQL(hidden_sizes=(64, 64), learning_rate=1e-3, alpha=alpha, particles=32, **changes)
    return replace(row.init(Spec(1, action), make_key(0)), likelihood=fixed(Known(q)))


def states(action, count=4):
    """A batch that is only its observations, [B, 1, o]."""
    obs, nought = jnp.linspace(-1.0, 1.0, count)[:, None, None], jnp.zeros((count, 1))
    return Transition(obs, jnp.zeros((count, 1, action)), nought, nought, obs, nought)


def published(agent, batch, key):
    """The E-step of the authors' code: kernel and gradient over a = tanh u, log-density Q̂/α + Σ log(1 - a²)."""
    obs, half = batch.obs[:, 0], agent.inference.model.samples // 2

    def score(a):
        return jax.vmap(jax.grad(lambda a: agent.likelihood.model.q(a) + jnp.log1p(-jnp.square(a)).sum()))(a)

    def one(sampler, obs, key):
        still, moved = jnp.split(jnp.tanh(sampler.points(obs, key, 2 * half)), 2)
        delta = direction(sg(still), sg(moved), score(sg(still)))
        return (delta * moved).sum(1).mean()

    keys = jax.random.split(key, obs.shape[0])
    loss = lambda sampler: (-jax.vmap(ft.partial(one, sampler))(obs, keys).mean(), None)
    return replace(agent, inference=agent.inference.descend(loss)[0]), None, {}


STEPS = {flat: 2000, two_modes: 3000, four_goals: 1500}


@ft.cache
def trained(q, action=1, e_step=stein_e_step):
    """An agent whose sampler has learned the posterior of a known critic."""

    def step(agent, key):
        return apply_pending(e_step(agent, states(action), key)[0])[0], None

    agent = agent_of(q, action)
    return jax.jit(lambda agent: jax.lax.scan(step, agent, jax.random.split(make_key(1), STEPS[q]))[0])(agent)


def draws(agent, s, n=20_000):
    """Actions of the sampler in one state, [n, a]."""
    return np.tanh(
        jax.jit(lambda agent, key: agent.inference.model.points(jnp.asarray([s]), key, n))(agent, make_key(2))
    )


def test_discrete_actions_are_refused():
    with pytest.raises(UsageError, match="sql is for continuous actions"):
        SQL().init(Spec(3, 4, OneHot()), make_key(0))


@pytest.mark.long
def test_a_critic_that_says_nothing_leaves_the_uniform_prior():
    for s in (-1.0, 1.0):
        a = draws(trained(flat), s)
        assert abs(np.square(a).mean() - 1 / 3) < 0.03  # with the squash's density left out or twice in: 1/5 or none
        assert abs(a.mean()) < 0.05


@pytest.mark.long
def test_the_published_form_samples_another_density():
    """Over a it has the Jacobian in the density too: exp(Q̂) Π(1 - a²), whose E a² is 1/5 where Q̂ = 0."""
    a = draws(trained(flat, e_step=published), 1.0)
    assert abs(np.square(a).mean() - 1 / 5) < 0.03


def histogram_of(q, bins):
    """Mass of p exp(Q̂) in each bin of [-1, 1]."""
    edges = np.linspace(-1, 1, 100 * bins + 1)
    a = jnp.asarray(0.5 * (edges[1:] + edges[:-1]), jnp.float32)
    density = np.exp(np.asarray(jax.vmap(lambda a: q(a[None]))(a), np.float64))
    return density.reshape(bins, 100).sum(1) / density.sum()


BINS = 10


@pytest.mark.long
def test_both_modes_are_held():
    true = histogram_of(two_modes, BINS)
    for s in (-1.0, 1.0):
        a = draws(trained(two_modes), s)[:, 0]
        assert abs((a > 0).mean() - 0.5) < 0.1
        mass = np.histogram(a, BINS, (-1, 1))[0] / len(a)
        # this way round: a continuous map of noise cannot jump, and leaves a few draws between the modes
        assert (true * np.log(true / mass)).sum() < 0.2
        assert (np.abs(a) < 0.2).mean() < 0.05


@pytest.mark.long
def test_free_particles_reach_both_modes_and_leave_nothing_between():
    problem = agent_of(two_modes).problem(Known(two_modes), jnp.ones(1))
    half = 0.9 * jax.random.normal(make_key(3), (50, 1))

    def step(carry, _):
        u, size = carry
        push = direction(u, u, score(problem, u, make_key(0)))
        size = 0.9 * size + 0.1 * jnp.square(push)
        return (u + 0.02 * push / (jnp.sqrt(size) + 1e-6), size), None

    start = jnp.concatenate([half, -half])
    run = rows.compiled(lambda u: jax.lax.scan(step, (u, jnp.zeros_like(u)), None, 400)[0][0])
    a = np.tanh(run(start))[:, 0]
    assert abs((a > 0).mean() - 0.5) < 0.1
    true, mass = histogram_of(two_modes, BINS), np.histogram(a, BINS, (-1, 1))[0] / len(a)
    held = mass > 0
    assert (mass[held] * np.log(mass[held] / true[held])).sum() < 0.1
    np.testing.assert_allclose(np.abs(a).std(), 0.1, rtol=0.15)


@pytest.mark.long
def test_four_goals_are_reached_alike():
    a = draws(trained(four_goals, 2), -1.0, 2000)
    near = np.square(a[:, None] - np.asarray(GOALS)).sum(-1)
    share = np.bincount(near.argmin(1), minlength=4) / len(a)
    assert ((share > 0.1) & (share < 0.4)).all()
    assert (near.min(1) < 0.35**2).mean() > 0.5  # 0.09 of the prior's draws
    agent, obs = trained(four_goals, 2), jnp.zeros((400, 1))
    u, acted = rows.compiled(acting.act)(agent, obs, make_key(4))
    assert len(np.unique(u[:, 0])) > 390
    squares = lambda a: np.square(np.asarray(a)[:, None] - np.asarray(GOALS)).sum(-1)
    assert np.bincount(squares(acted).argmin(1), minlength=4).min() > 40
    greedy = rows.compiled(acting.act_greedily)(agent, obs[:5], make_key(4))
    assert squares(greedy).min(1).max() < 0.2**2  # the best of its draws


ALPHA = 0.7


@pytest.mark.long
@pytest.mark.parametrize("proposal", ["uniform", "sampler"])
def test_the_exponential_of_the_soft_value_has_no_bias(proposal):
    agent = agent_of(two_modes, alpha=ALPHA, proposal=proposal, target_samples=4)
    agent = replace(agent, inference=fixed(trained(two_modes).inference.model))
    value = agent.bootstrap(agent).value
    draw = jax.jit(jax.vmap(lambda key: value(rows.arriving(jnp.ones(1)), key)))
    found = np.asarray(draw(jax.random.split(make_key(0), 20_000)))
    a = jnp.linspace(-1, 1, 20_001)
    true = np.exp(np.asarray(jax.vmap(lambda a: two_modes(a[None]))(a), np.float64) / ALPHA).mean()
    each = np.exp(found.astype(np.float64) / ALPHA)
    assert abs(each.mean() - true) < 4 * each.std() / len(each) ** 0.5 + 1e-3 * true
    assert found.mean() < ALPHA * np.log(true)


def test_the_soft_value_is_that_of_a_boltzmann_posterior_on_the_slow_critic():
    agent = rows.start("sql")
    moved = jax.tree.map(lambda leaf: leaf + 0.1, agent.likelihood.model)
    agent = replace(agent, likelihood=replace(agent.likelihood, model=moved))
    key, alpha = make_key(3), agent.temperature.model()

    def by_hand(agent):
        prior = agent.prior.slow(OBS)
        u = jax.vmap(prior.sample)(jax.random.split(jax.random.split(key, 3)[1], agent.target_samples))
        values = jax.vmap(lambda u: agent.likelihood.slow.values(OBS, u)[0])(u)
        draws = Particles(u, exponential(values, alpha)).draw(key, 1, prior)
        return draws.weight @ (values - alpha * draws.log_ratio), alpha * jnp.log(jnp.exp(values / alpha).mean())

    found = rows.compiled(lambda agent: agent.bootstrap(agent).value(rows.arriving(OBS), key))(agent)
    for want in rows.compiled(by_hand)(agent):
        np.testing.assert_allclose(found, want, rtol=1e-5)


GROUPS = {
    "prior": lambda agent: agent.prior.model,
    "sampler": lambda agent: agent.inference.model,
    "critic": lambda agent: agent.likelihood.model,
    "alpha": lambda agent: agent.temperature.model,
}


def changed(before, after):
    leaves = {name: [jax.tree.leaves(group(each)) for each in (before, after)] for name, group in GROUPS.items()}
    return {name for name, pair in leaves.items() if not all(map(np.array_equal, *pair))}


@pytest.mark.parametrize("proposal", ["uniform", "sampler"])
def test_each_step_moves_its_own_component_alone(proposal):
    row = replace(rows.ROWS["sql"], proposal=proposal)
    start = lambda key: row.init(rows.SPEC, key)
    agent, other = (jax.eval_shape(start, make_key(seed)) for seed in (0, 1))
    assert jax.tree.structure(agent) == jax.tree.structure(other)
    pending = lambda agent: {name for name in em.LEARNED if getattr(agent, name).pending is not None}
    batch = rows.batch()
    after = jax.eval_shape(agent.e_step, agent, batch, make_key(0))[0]
    assert pending(after) == {"inference"}
    assert pending(jax.eval_shape(em.critic_step, agent, batch, make_key(0))[0]) == {"likelihood"}


def test_the_gradient_is_the_stein_direction_through_the_half_that_moves():
    agent, batch, key = rows.start("sql"), rows.batch(size=1), make_key(5)
    sampler, half = agent.inference.model, agent.inference.model.samples // 2

    def by_hand(agent):
        k_still, k_moved, k_score = jax.random.split(jax.random.split(key, 1)[0], 3)
        obs, problem = batch.obs[0, 0], agent.problem(agent.likelihood.model, batch.obs[0, 0])
        still = sampler.points(obs, k_still, half)
        moved, back = jax.vjp(lambda sampler: sampler.points(obs, k_moved, half), sampler)
        scores = score(problem, still, k_score)
        return still, moved, scores, back(direction(still, moved, scores) / half)[0]

    still, moved, scores, climb = rows.compiled(by_hand)(agent)
    pending = rows.compiled(lambda agent: stein_e_step(agent, batch, key)[0].inference.pending)(agent)
    np.testing.assert_allclose(pending.gradient, -ravel_pytree(climb)[0], rtol=1e-4, atol=1e-6)
    # the direction itself, term by term
    x, y, g = (np.asarray(each, np.float64) for each in (still, moved, scores))
    h = np.median([((p - q) ** 2).sum() for p in x for q in y]) / np.log(half)
    k = lambda p, q: np.exp(-((p - q) ** 2).sum() / h)
    want = [np.mean([k(x[i], q) * (g[i] - 2 / h * (x[i] - q)) for i in range(half)], 0) for q in y]
    np.testing.assert_allclose(direction(still, moved, scores), want, rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_the_score_is_over_the_point_before_the_squash():
    problem = agent_of(two_modes, alpha=ALPHA).problem(Known(two_modes), jnp.ones(1))
    u = jnp.asarray([[0.4], [-1.3]])
    a = np.tanh(u)
    want = -2 * (a - np.sign(a) * 0.6) / 0.02 * (1 - a**2) / ALPHA - 2 * a
    np.testing.assert_allclose(score(problem, u, make_key(0)), want, rtol=1e-4)


@pytest.mark.parametrize("spread", [0.0, 1e-20, 1.0, 1e4])
def test_the_kernel_survives_particles_that_coincide_or_are_far(spread):
    points = spread * jax.random.normal(make_key(0), (8, 2))
    still, moved = jnp.split(points, 2)
    square = jnp.square(still[:, None] - moved[None]).sum(-1)
    h = float(bandwidth(square))
    assert h == pytest.approx(max(np.median(square) / np.log(4), 1e-3), rel=1e-5)
    push = direction(still, moved, jnp.zeros((4, 2)))
    assert np.isfinite(push).all()
    if spread == 1.0:
        far = direction(jnp.zeros((4, 2)), jnp.asarray([[0.3, 0.0]]), jnp.zeros((4, 2)))
        assert far[0, 0] > 0  # away from those that stand still


def test_the_e_step_wants_a_sampler():
    agent = rows.start("sql")
    other = replace(agent, inference=fixed(Direct(mlp((3,), 2, (8,), key=make_key(0)))))
    with pytest.raises(UsageError, match="Direct"):
        stein_e_step(other, rows.batch(), make_key(0))


@pytest.mark.long
def test_the_temperature_stays_and_the_slow_critic_is_a_hard_copy():
    agent = rows.start("sql")
    after, info = rows.updater("sql")(agent, rows.batch(), make_key(0))
    assert info["m/alpha"] == agent.temperature.model() == jnp.float32(0.3)
    assert info["e/stein"] > 0
    assert "critic" in changed(agent, after)
    jax.tree.map(ft.partial(np.testing.assert_allclose, rtol=1e-6), after.likelihood.target, after.likelihood.model)
    published = SQL().init(rows.SPEC, make_key(0)).likelihood
    assert (published.tau, published.every) == (1.0, 1000)


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 0.0},
        {"alpha": float("nan")},
        {"particles": 3},
        {"target_samples": 0},
        {"target_period": 0},
        {"tau": 0.0},
        {"proposal": "posterior"},
        {"hidden_sizes": ()},
    ],
)
def test_bad_numbers_are_refused_by_their_name(change):
    with pytest.raises(UsageError, match=next(iter(change))):
        SQL(**change)


def test_an_unbounded_action_is_refused():
    with pytest.raises(UsageError, match="bounded"):
        SQL(hidden_sizes=(8,)).init(Spec(2, 2, Identity()), make_key(0))
