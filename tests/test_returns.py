"""n-step, Retrace and λ-returns: in expectation over every path of tabular problems, and by hand."""

import functools as ft

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.likelihoods.returns import Segment, gae, n_step, one_step, retrace, trace_coefficient
from oracles import tabular

GAMMA, T = 0.9, 3
EXACT = {"rtol": 0, "atol": 1e-9}
SEEDS = range(3)


@ft.cache
def setting(seed):
    """A problem, a policy, another that behaves, KL costs, and values that are not those of the policy."""
    rng = np.random.default_rng(100 + seed)
    m, pi, mu = tabular.problem(seed), tabular.policy(seed), tabular.policy(50 + seed)
    return m, pi, mu, rng.uniform(0, 1, 3), rng.normal(size=3), rng.normal(size=(3, 2))


@ft.partial(jax.jit, static_argnums=0)
def n_steps(n, x, s, a, after, v, kappa):
    return jax.vmap(lambda x, s, after: n_step(x, v[after], kappa[s], GAMMA, n))(x, s, after)


@jax.jit
def retraced(x, s, a, after, v, q, log_ratio, lam):
    one = lambda x, s, a, after: retrace(x, v[after], q[s, a], trace_coefficient(log_ratio[s, a], lam), GAMMA)
    return jax.vmap(one)(x, s, a, after)


@jax.jit
def advantages(x, s, a, after, v, kappa, lam):
    return jax.vmap(lambda x, s, after: gae(x, v[s], v[after], kappa[s], GAMMA, lam))(x, s, after)


def expected(m, mu, estimate, *values):
    """E of the estimate at the first step for every state and action [s, a], over all paths of T steps."""
    path = tabular.paths(m, mu, T)
    index = path.state, path.action, path.after
    with jax.enable_x64(True):
        segment = Segment(*map(jnp.asarray, (m.reward[path.state, path.action], 1 - m.end[path.after], path.last)))
        y = np.asarray(estimate(segment, *map(jnp.asarray, index + values)))
    assert y.dtype == np.float64
    total, weight = np.zeros(mu.shape), np.zeros(mu.shape)
    first = path.state[:, 0], path.action[:, 0]
    np.add.at(total, first, path.weight * y[:, 0])
    np.add.at(weight, first, path.weight)
    np.testing.assert_allclose(weight, mu, **EXACT)
    return total / weight


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_n_step_in_expectation(seed, n):
    m, pi, _, kappa, value, _ = setting(seed)
    q, true = tabular.evaluate(m, pi, kappa)
    y = lambda v: expected(m, pi, ft.partial(n_steps, n), v, kappa)
    np.testing.assert_allclose(y(true), q, **EXACT)
    backup = m.reward + tabular.onward(m, value)  # what the values of no policy give, step by step
    for _ in range(1, min(n, T)):
        inside = (1 - m.truncated) * ((pi * backup).sum(1) - kappa) + m.truncated * value
        backup = m.reward + tabular.onward(m, inside)
    np.testing.assert_allclose(y(value), backup, **EXACT)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
def test_retrace_in_expectation_under_another_behaviour(seed, lam):
    m, pi, mu, kappa, value, wrong = setting(seed)
    q, true = tabular.evaluate(m, pi, kappa)
    y = lambda v, q: expected(m, mu, retraced, v, q, np.log(pi / mu), lam)
    np.testing.assert_allclose(y(true, q), q, **EXACT)
    surprise = m.reward + tabular.onward(m, value) - wrong
    off, trace = surprise, lam * np.minimum(mu, pi)  # μ c
    for _ in range(1, T):
        off = surprise + tabular.onward(m, (1 - m.truncated) * (trace * off).sum(1))
    np.testing.assert_allclose(y(value, wrong), wrong + off, **EXACT)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
def test_advantages_in_expectation(seed, lam):
    m, pi, _, kappa, value, _ = setting(seed)
    _, true = tabular.evaluate(m, pi, kappa)
    y = lambda v: (pi * expected(m, pi, advantages, v, kappa, lam)).sum(1)
    np.testing.assert_allclose(y(true), kappa, **EXACT)  # so that E[G - κ] = V
    surprise = (pi * (m.reward + tabular.onward(m, value))).sum(1) - value
    off = surprise
    for _ in range(1, T):
        off = surprise + lam * (pi * tabular.onward(m, (1 - m.truncated) * (off - kappa))).sum(1)
    np.testing.assert_allclose(y(value), off, **EXACT)


def by_hand():
    """Two steps that end in a time limit, two that end in a terminal state, and one more."""
    reward, discount = jnp.asarray([1.0, 2.0, 4.0, 8.0, 16.0]), jnp.asarray([1.0, 1.0, 1.0, 0.0, 1.0])
    last = jnp.asarray([0.0, 1.0, 0.0, 1.0, 0.0])
    return Segment(reward, discount, last), jnp.asarray([10.0, 20.0, 30.0, 40.0, 50.0])


KAPPA = jnp.asarray([0.1, 0.2, 0.3, 0.4, 0.5])


def test_n_step_by_hand():
    x, v = by_hand()
    ends = {1: 2 + 0.5 * 20, 3: 8.0, 4: 16 + 0.5 * 50}  # a time limit bootstraps, a terminal does not
    np.testing.assert_allclose(n_step(x, v, KAPPA, 0.5, 1), [1 + 5.0, ends[1], 4 + 15.0, ends[3], ends[4]], rtol=1e-6)
    two = [1 + 0.5 * (12 - 0.2), ends[1], 4 + 0.5 * (8 - 0.4), ends[3], ends[4]]
    for n in (2, 5, 50):
        np.testing.assert_allclose(n_step(x, v, KAPPA, 0.5, n), two, rtol=1e-6)


def test_retrace_by_hand():
    x, v = by_hand()
    q, log_ratio = jnp.asarray([1.0, 2.0, 3.0, 4.0, 5.0]), jnp.log(jnp.asarray([9.0, 0.5, 9.0, 4.0, 9.0]))
    np.testing.assert_allclose(trace_coefficient(log_ratio, 0.8), [0.8, 0.4, 0.8, 0.8, 0.8], rtol=1e-6)
    y = retrace(x, v, q, trace_coefficient(log_ratio, 0.8), 0.5)
    want = [6 + 0.5 * 0.4 * (12 - 2), 12.0, 19 + 0.5 * 0.8 * (8 - 4), 8.0, 41.0]
    np.testing.assert_allclose(y, want, rtol=1e-6)


def test_advantages_by_hand():
    x, v = by_hand()
    value = jnp.asarray([1.0, 2.0, 3.0, 4.0, 5.0])
    want = [5 + 0.25 * (10 - 0.2), 10.0, 16 + 0.25 * (4 - 0.4), 4.0, 36.0]
    np.testing.assert_allclose(gae(x, value, v, KAPPA, 0.5, 0.5), want, rtol=1e-6)


def test_the_ratio_of_the_first_action_does_not_matter_and_far_ratios_stay_finite():
    x, v = by_hand()
    near = retrace(x, v, 0 * v, trace_coefficient(jnp.asarray([0.0, -0.5, 0.0, 0.0, 0.0]), 1.0), 0.5)
    far = retrace(x, v, 0 * v, trace_coefficient(jnp.asarray([-500.0, -0.5, 500.0, 200.0, -500.0]), 1.0), 0.5)
    np.testing.assert_array_equal(near, far)


def episode(seed=0, steps=12):
    """One episode on policy that a time limit ends: values of s_{t+1} are those of s'_t."""
    rng = np.random.default_rng(seed)
    value = rng.normal(size=steps + 1)
    segment = Segment(rng.normal(size=steps), np.ones(steps), (np.arange(steps) == steps - 1).astype(float))
    return Segment(*map(jnp.asarray, segment)), *map(jnp.asarray, (value[:-1], value[1:], rng.uniform(size=steps)))


@pytest.mark.parametrize("terminal", [False, True])
def test_the_ends_of_the_scales_are_monte_carlo_and_td0_and_agree(terminal):
    with jax.enable_x64(True):
        x, v, after, kappa = episode()
        x = x._replace(discount=x.discount.at[-1].set(1.0 - terminal))
        reward, costs = np.asarray(x.reward), np.asarray(kappa)
        total, monte_carlo = (0.0 if terminal else float(after[-1])), np.empty(12)
        for t in reversed(range(12)):  # κ of the next step is paid on arrival; the last successor's is in its value
            total = reward[t] + GAMMA * (total - (costs[t + 1] if t < 11 else 0.0))
            monte_carlo[t] = total
        np.testing.assert_allclose(n_step(x, after, kappa, GAMMA, 12), monte_carlo, **EXACT)
        np.testing.assert_allclose(v + gae(x, v, after, kappa, GAMMA, 1.0), monte_carlo, **EXACT)
        td0 = one_step(x, after, GAMMA)
        np.testing.assert_allclose(td0, x.reward + GAMMA * x.discount * after, **EXACT)
        np.testing.assert_allclose(n_step(x, after, kappa, GAMMA, 1), td0, **EXACT)
        np.testing.assert_allclose(v + gae(x, v, after, kappa, GAMMA, 0.0), td0, **EXACT)
        q = jnp.asarray(np.random.default_rng(1).normal(size=12))
        np.testing.assert_allclose(retrace(x, after, q, trace_coefficient(jnp.zeros(12), 0.0), GAMMA), td0, **EXACT)
        # on policy with λ = 1: the n-step return, with the correction V - Q of every step between
        corrected = n_step(x, after, q - v, GAMMA, 12)
        np.testing.assert_allclose(
            retrace(x, after, q, trace_coefficient(jnp.zeros(12), 1.0), GAMMA), corrected, **EXACT
        )


@pytest.mark.parametrize("estimate", ["n_step", "retrace", "gae"])
def test_nothing_comes_from_beyond_an_end(estimate):
    x, v = by_hand()
    run = {
        "n_step": lambda x, v, k: n_step(x, v, k, GAMMA, 4),
        "retrace": lambda x, v, k: retrace(x, v, k, trace_coefficient(k, 1.0), GAMMA),
        "gae": lambda x, v, k: gae(x, 0.5 * k, v, k, GAMMA, 0.9),
    }[estimate]
    later = jnp.asarray([0.0, 0.0, 7.0, 7.0, 7.0])
    changed = run(x._replace(reward=x.reward + later), v + later, KAPPA + later)
    before = run(x, v, KAPPA)
    np.testing.assert_array_equal(changed[:2], before[:2])
    assert (changed[2:] != before[2:]).all()
    short = run(Segment(*(leaf[:2] for leaf in x)), v[:2], KAPPA[:2])
    np.testing.assert_allclose(short, before[:2], rtol=1e-6)
