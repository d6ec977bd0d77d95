"""Several independent choices at once: sums over combinations, samples with the right gradient, and rows that take
them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from estep.algorithms import ALGORITHMS
from estep.core import em
from estep.core.acting import act
from estep.core.keys import make_key
from estep.core.objective import soft_value
from estep.core.slots import Likelihood, Problem
from estep.core.types import OneHots, Spec, Transition, to_one_hot
from estep.errors import UsageError
from estep.families.categorical import FactoredCategorical, FactoredSoftmax, categorical_kl, combinations
from estep.m_steps.temperature import least_entropy
from estep.policy.actor import memo_widths
from estep.priors.flat import Flat
from estep.priors.uniform import Uniform
from oracles import rows

SIZES, KEY = (2, 3), make_key(0)
SPEC, MANY = Spec(3, 5, OneHots(SIZES)), Spec(3, 18, OneHots((2,) * 9))
LOGITS = np.array([0.3, -1.2, 0.7, 0.1, -0.4])
PROBABILITIES = np.outer(softmax(LOGITS[:2]), softmax(LOGITS[2:])).ravel()
VALUES = np.array([1.0, -0.4, 0.2, 2.5, 0.0, -1.0])


class Table(Likelihood):
    """Q̂ of each combination."""

    values: jax.Array

    def __call__(self, problem, action, key):
        return self.values[3 * action[:2].argmax() + action[2:].argmax()]

    def loss(self, batch, bootstrap, key):
        raise NotImplementedError


def problem(prior):
    return Problem(jnp.zeros(3), prior, Table(jnp.asarray(VALUES, jnp.float32)), jnp.asarray(0.7))


def test_combinations_are_all_there_are():
    expected = [np.concatenate([np.eye(2)[i], np.eye(3)[j]]) for i, j in itertools.product(range(2), range(3))]
    np.testing.assert_array_equal(combinations(SIZES), expected)


@pytest.mark.parametrize(("prior", "log_p"), [(Flat(SPEC), 0.0), (Uniform(SPEC), -np.log(6.0))])
def test_expectations_are_sums_over_combinations_and_so_are_their_gradients(prior, log_p):
    value = lambda lam: soft_value(FactoredSoftmax(SIZES)(lam), problem(prior), KEY, 1)[0]
    found, gradient = rows.compiled(jax.value_and_grad(value))(jnp.asarray(LOGITS, jnp.float32))
    advantage = VALUES - 0.7 * (np.log(PROBABILITIES) - log_p)
    np.testing.assert_allclose(found, PROBABILITIES @ advantage, rtol=1e-5)
    score = combinations(SIZES) - np.concatenate([softmax(LOGITS[:2]), softmax(LOGITS[2:])])
    np.testing.assert_allclose(gradient, (PROBABILITIES * advantage) @ score, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("n", [1, 4])
def test_samples_have_the_gradient_of_the_expectation_on_average(n):
    def value(lam, key):
        return soft_value(FactoredCategorical(lam, SIZES), problem(Uniform(SPEC)), key, n)[0]

    many = jax.vmap(jax.value_and_grad(value), (None, 0))
    found, gradient = rows.compiled(many)(jnp.asarray(LOGITS, jnp.float32), jax.random.split(KEY, 40_000))
    exact = lambda lam: soft_value(FactoredSoftmax(SIZES)(lam), problem(Uniform(SPEC)), KEY)[0]
    value, slope = jax.value_and_grad(exact)(jnp.asarray(LOGITS, jnp.float32))
    np.testing.assert_allclose(found.mean(), value, atol=5 * found.std() / 200)
    assert (np.abs(gradient.mean(0) - slope) < 5 * gradient.std(0) / 200 + 1e-6).all()


def test_density_entropy_and_kl_are_sums_over_the_choices():
    q = FactoredCategorical(jnp.asarray(LOGITS, jnp.float32), SIZES)
    log_prob = jax.vmap(q.log_prob)(jnp.asarray(combinations(SIZES)))
    np.testing.assert_allclose(log_prob, np.log(PROBABILITIES), rtol=1e-5)
    np.testing.assert_array_equal(q.mode(), [1, 0, 1, 0, 0])
    np.testing.assert_allclose(
        categorical_kl(q, Uniform(SPEC)(jnp.zeros(3))), PROBABILITIES @ log_prob + np.log(6.0), rtol=1e-4
    )
    sampled = np.asarray(rows.compiled(jax.vmap(q.sample))(jax.random.split(KEY, 20_000)))
    np.testing.assert_allclose(
        sampled.mean(0), np.exp(np.r_[log_softmax(LOGITS[:2]), log_softmax(LOGITS[2:])]), atol=0.015
    )
    assert (sampled[:, :2].sum(1) == 1).all()
    assert least_entropy(SPEC, -1.0, 0.5).epsilon == pytest.approx(-0.5 * np.log(6.0))


def batch(agent):
    k, shape, factors = jax.random.split(KEY, 3), (4, agent.length), agent.spec.factors
    index = np.random.default_rng(0).integers(factors, size=(*shape, len(factors))).astype(np.float32)
    obs, next_obs = (jax.random.normal(key, (*shape, 3)) for key in k[:2])
    memo = {name: jnp.zeros((*shape, width)) for name, width in memo_widths(agent).items()}
    reward, ones = jax.random.normal(k[2], shape), jnp.ones(shape)
    return Transition(obs, jnp.asarray(to_one_hot(index, factors)), reward, ones, next_obs, 0 * ones, memo)


@pytest.mark.parametrize(
    ("name", "options", "spec"),
    [
        ("sac", {}, SPEC),
        ("mpo", {"samples": 3}, MANY),
        ("vmpo", {}, MANY),
        ("soft-pg", {}, MANY),
    ],
)
def test_a_row_that_takes_them_learns(name, options, spec):
    row = ALGORITHMS[name](hidden_sizes=(8,), **options)
    agent = rows.compiled(lambda key: row.init(spec, key))(KEY)
    agent, info = rows.compiled(em.update)(agent, batch(agent), KEY)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(agent))
    assert float(info["skipped"]) == 0.0
    assert np.asarray(act(agent, jnp.zeros((4, 3)), KEY)[1]).sum() == 4 * len(spec.factors)


@pytest.mark.parametrize(
    ("name", "options", "spec", "match"),
    [
        ("sac", {}, MANY, "512 combinations"),
        ("iterative-sac", {}, MANY, "mpo"),
        ("mpo-parametric", {}, MANY, "mpo"),
        ("sql", {}, SPEC, "continuous"),
        ("rerpi", {"covariance": "full"}, SPEC, "covariance"),
        ("compose", {}, SPEC, 'posterior="gaussian"'),
        ("compose", {"posterior": "categorical"}, MANY, "boltzmann"),
        ("compose", {"posterior": "categorical", "inference": "closed-form"}, SPEC, "not independent"),
        (
            "compose",
            {"posterior": "boltzmann", "inference": "closed-form", "prior": "gaussian"},
            SPEC,
            "Gaussian prior",
        ),
    ],
)
def test_a_row_that_does_not_take_them_says_so_before_the_first_step(name, options, spec, match):
    row = ALGORITHMS[name](hidden_sizes=(8,), **options)
    with pytest.raises(UsageError, match=match):
        jax.eval_shape(lambda key: row.init(spec, key), KEY)
