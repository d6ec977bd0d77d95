"""Exact variational EM on random tables: the bound never falls, and the library's E- and M-steps are its steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp

from estep.core.keys import make_key
from estep.core.learned import fixed
from estep.core.objective import soft_value
from estep.core.slots import Problem
from estep.families.categorical import Categorical, Softmax
from estep.inference.closed_form import Exact
from estep.m_steps import trust_region as regions
from estep.m_steps.multipliers import Multiplier
from oracles import rows, tabular
from oracles.known import Known, Tabular

STATES, ACTIONS, ALPHA, ROUNDS = 5, 3, 0.4, 12
SEES = {
    "everything": np.arange(STATES),
    "one bit": np.arange(STATES) % 2,
    "nothing": np.zeros(STATES, int),
}
"""What a prior may look at: states of the same number share their probabilities."""

seeds = given(seed=st.integers(0, 10_000))
some = settings(max_examples=10, deadline=None)


def divergence(pi, p):
    """KL(π‖p) in every state."""
    return (pi * (np.log(pi) - np.log(p))).sum(1)


def evaluated(m, pi, p):
    """Q and V of (2)."""
    return tabular.evaluate(m, pi, ALPHA * divergence(pi, p))


def occupancy(m, pi, start):
    """Σ_t γ^t Pr(s_t = ·) under π."""
    step = m.gamma * np.einsum("sa,sat->st", pi, m.p * (1 - m.end))
    return np.linalg.solve(np.eye(STATES) - step.T, start)


def boltzmann(q, p):
    """π ∝ p exp(Q/α)."""
    return np.exp(log_softmax(np.log(p) + q / ALPHA, axis=1))


def improved(m, pi, p):
    """One step of soft policy improvement."""
    return boltzmann(evaluated(m, pi, p)[0], p)


def optimal(m, pi, p):
    """The exact E-step: the best π of all under p, by soft policy iteration."""
    for _ in range(10):
        pi = improved(m, pi, p)
    return pi


def averaged(pi, weight, sees):
    """The exact M-step, argmin_p Σ_s w_s KL(π‖p): the weighted average of π over the states that look the same."""
    same = sees[:, None] == sees[None]
    return (same * weight) @ pi / (same @ weight)[:, None]


def bounds(m, start, sees, e_step, weigh):
    """(1) from the start distribution after each half of each round; and the last π and p."""
    p, found = averaged(tabular.policy(7, STATES, ACTIONS), np.ones(STATES), sees), []
    pi = p
    for _ in range(ROUNDS):
        pi = e_step(m, pi, p)
        found.append(start @ evaluated(m, pi, p)[1])
        p = averaged(pi, weigh(m, pi, start), sees)
        found.append(start @ evaluated(m, pi, p)[1])
    return np.array(found), pi, p


def table(seed):
    """A random MDP and where it starts."""
    return tabular.problem(seed, STATES, ACTIONS), np.random.default_rng(seed).dirichlet(np.ones(STATES))


@pytest.mark.parametrize("sees", SEES)
@pytest.mark.parametrize("e_step", [optimal, improved])
@seeds
@some
def test_the_bound_never_falls(seed, sees, e_step):
    found, _, _ = bounds(*table(seed), SEES[sees], e_step, occupancy)
    assert np.diff(found).min() > -1e-11
    assert found[-1] > found[0] + 1e-4


def test_weighed_by_anything_but_occupancy_it_falls():
    """For a prior that cannot tell all states apart; so the assertion above does see a wrong M-step."""
    anywhere = lambda m, pi, start: np.ones(STATES)
    falls = [np.diff(bounds(*table(seed), SEES["nothing"], optimal, anywhere)[0]).min() for seed in range(25)]
    assert min(falls) < -0.01


@rows.compiled
def library_e_step(q, log_p, alpha):
    """log π, V and the draws of every state."""

    def one(obs):
        problem = Problem(obs, Known(log_p), Tabular(q), alpha)
        found = Softmax(ACTIONS)(Exact()(problem, Softmax(ACTIONS), make_key(0)).lam)
        value, draws = soft_value(found, problem, make_key(0))
        return found.log_probs, value, draws

    return jax.vmap(one)(jnp.eye(STATES))


@rows.compiled
def library_m_step(logits, looks, draws):
    """The gradient of the fit of a prior that sees `looks` [s, k], without a trust region, and the fit."""
    free = {"policy": Multiplier(jnp.full(1, -jnp.inf), 1.0)}
    region = regions.TrustRegion(free, None, regions.coupled, regions.choices)
    step, (_, info) = region.descend(fixed(Known(logits)), draws, None, looks)
    return step.pending.gradient, info["m/fit"]


@seeds
@some
def test_the_e_step_of_the_library_is_the_exact_one(seed):
    m, _ = table(seed)
    for sees in SEES.values():
        p = averaged(tabular.policy(seed, STATES, ACTIONS), np.ones(STATES), sees)
        pi = tabular.policy(seed + 1, STATES, ACTIONS)
        q = evaluated(m, pi, p)[0]
        with jax.enable_x64(True):
            log_pi, value, draws = library_e_step(*(jnp.asarray(x) for x in (q, np.log(p), ALPHA)))
        assert log_pi.dtype == np.float64
        np.testing.assert_allclose(np.exp(log_pi), boltzmann(q, p), atol=1e-10)
        np.testing.assert_allclose(value, ALPHA * logsumexp(np.log(p) + q / ALPHA, axis=1), atol=1e-10)
        kl = (np.asarray(draws.weight) * np.asarray(draws.log_ratio)).sum(1)
        np.testing.assert_allclose(kl, divergence(boltzmann(q, p), p), atol=1e-10)


@seeds
@some
def test_the_fit_of_the_library_stands_still_at_the_occupancy_weighted_average(seed):
    m, start = table(seed)
    p = tabular.policy(seed, STATES, ACTIONS)
    pi = optimal(m, p, p)
    weight = occupancy(m, pi, start)
    for sees in SEES.values():
        p = averaged(pi, weight, sees)
        looks = np.eye(STATES)[sees]
        best = np.log(p)[np.argmax(looks, axis=0)]  # any of the states of each look
        with jax.enable_x64(True):
            draws = jax.vmap(lambda row: Categorical(row).draw(make_key(0), 1, Categorical(row)))(
                jnp.log(jnp.asarray(pi))
            )
            # a batch drawn from the occupancy, in the mean: states count as often as they are visited
            draws = draws._replace(weight=draws.weight * jnp.asarray(STATES * weight / weight.sum())[:, None])
            still, most = library_m_step(jnp.asarray(best), jnp.asarray(looks), draws)
            moved, less = library_m_step(jnp.asarray(best + 9 * np.eye(*best.shape)), jnp.asarray(looks), draws)
        np.testing.assert_allclose(still, 0, atol=1e-9)
        assert np.abs(moved).max() > 1e-3
        assert less < most
        np.testing.assert_allclose(most, (weight / weight.sum()) @ (pi * np.log(p)).sum(1), atol=1e-9)
