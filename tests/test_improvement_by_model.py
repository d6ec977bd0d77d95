"""One round of improvement on returns of imagined steps, against exact solutions: linear-quadratic and tabular."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.core.keys import make_key
from estep.core.model import Prediction
from estep.core.slots import Likelihood, Problem
from estep.core.types import Identity
from estep.families.categorical import Categorical, Softmax
from estep.families.gaussian import Gaussian, Normal
from estep.likelihoods.imagined import Imagined, Policy, Returns
from estep.priors.gaussian import FixedGaussian
from oracles import lqr, rows, tabular
from oracles.known import Known, Tabular
from test_tabular_em import ALPHA, averaged, boltzmann, evaluated, occupancy

TASK = lqr.problem(prior=True)
NARROW = -40.0
"""log σ of a policy that has no noise to speak of."""


class Plant(NamedTuple):
    """The true model of the linear task, without noise."""

    members: int = 1

    def predict(self, obs, action, member):
        mean = jnp.asarray(TASK.a) @ obs + jnp.asarray(TASK.b) @ action
        reward = -0.5 * (obs @ jnp.asarray(TASK.q) @ obs + action @ jnp.asarray(TASK.r) @ action)
        return Prediction(mean, jnp.zeros_like(mean), reward, jnp.ones((), obs.dtype))


class TrueQ(Likelihood):
    """Q of a linear policy, but for a constant."""

    p: jax.Array

    def __call__(self, problem, action, key):
        found = Plant().predict(problem.obs, action, 0)
        return found.reward - 0.5 * TASK.gamma * found.mean @ self.p @ found.mean

    def loss(self, batch, bootstrap, key):
        return jnp.zeros(()), {}


class Linear(Policy):
    """N(K s, σ²)."""

    gain: jax.Array = None

    def __call__(self, problem, key):
        return Normal(self.gain @ problem.obs, jnp.full(2, NARROW))


class LinearPrior(FixedGaussian):
    """N(K_p s, Σ_p), of the task."""

    def __call__(self, obs):
        gain, sigma = TASK.prior
        return Normal(jnp.asarray(gain) @ obs, 0.5 * jnp.log(jnp.asarray(np.diag(sigma))))


@rows.compiled
def curvature_and_slope(gain, p):
    """H and G of Q̂ = -uᵀHu/2 - uᵀGs + ..., of three imagined steps that follow the gain."""
    prior, returns = LinearPrior(jnp.zeros(2), jnp.ones(2)), Returns(3, TASK.gamma, 0.7)
    policy = Linear(None, Gaussian(2), gain)
    estimate = Imagined(TrueQ(p), Plant(), policy, Identity(), jnp.zeros(()), returns)

    def value(u, obs):
        return estimate(Problem(obs, prior, estimate, jnp.asarray(TASK.alpha)), u, make_key(0))

    nought = jnp.zeros(2)
    slope = jax.jacobian(jax.grad(value), argnums=1)(nought, nought)
    return -jax.hessian(value)(nought, nought), -slope


def test_rounds_of_soft_improvement_on_imagined_steps_are_those_of_the_task_and_end_at_its_optimum():
    """The E-step of `kl-mve`: its best policy is N((Γ + H)⁻¹(ΓK_p - G) s, α(Γ + H)⁻¹), as on the exact Q of the policy
    that is followed."""
    best_gain, best_sigma, best_p, _ = lqr.optimum(TASK)
    gain, pull, k_p = np.zeros((2, 2)), TASK.pull, TASK.prior_gain
    for _ in range(12):
        p, _ = lqr.value(TASK, gain, np.eye(2))
        h, g = TASK.r + TASK.gamma * TASK.b.T @ p @ TASK.b, TASK.gamma * TASK.b.T @ p @ TASK.a
        with jax.enable_x64(True):
            found = [np.asarray(each) for each in curvature_and_slope(jnp.asarray(gain), jnp.asarray(p))]
        np.testing.assert_allclose(found[0], h, atol=1e-9)
        np.testing.assert_allclose(found[1], g, atol=1e-9)
        better = np.linalg.solve(pull + found[0], pull @ k_p - found[1])
        after, _ = lqr.value(TASK, better, np.eye(2))
        assert np.linalg.eigvalsh(p - after).min() > -1e-12  # no state is worse
        gain = better
    np.testing.assert_allclose(gain, best_gain, atol=1e-9)
    np.testing.assert_allclose(TASK.alpha * np.linalg.inv(pull + found[0]), best_sigma, atol=1e-9)
    np.testing.assert_allclose(after, best_p, atol=1e-9)


STATES, ACTIONS = 5, 3


class Steps(NamedTuple):
    """The true model of a table whose steps lead to one state each."""

    after: jax.Array
    reward: jax.Array
    go_on: jax.Array
    members: int = 1

    def predict(self, obs, action, member):
        at = obs.argmax(), action.argmax()
        mean = jax.nn.one_hot(self.after[at], STATES, dtype=obs.dtype)
        return Prediction(mean, jnp.zeros_like(mean), self.reward[at], self.go_on[at])


class TablePolicy(Policy):
    """π(a|s), a table."""

    logits: jax.Array = None

    def __call__(self, problem, key):
        return Categorical(problem.obs @ self.logits)


@rows.compiled
def estimates(steps, q, log_pi, log_p, keys):
    """The mean of Q̂ of two imagined steps in every state, over keys, and its standard error."""
    policy = TablePolicy(None, Softmax(ACTIONS), log_pi)
    estimate = Imagined(Tabular(q), steps, policy, Identity(), jnp.zeros(()), Returns(2, 0.9, 0.9))
    prior = Known(log_p)

    def value(state, choice, key):
        return estimate(Problem(state, prior, estimate, jnp.asarray(ALPHA)), choice, key)

    of_keys = jax.vmap(value, (None, None, 0))
    of_all = jax.vmap(jax.vmap(of_keys, (None, 0, None)), (0, None, None))
    found = of_all(jnp.eye(STATES), jnp.eye(ACTIONS), keys)
    return found.mean(-1), found.std(-1) / len(keys) ** 0.5


@pytest.mark.long
def test_em_on_imagined_steps_of_a_true_model_does_not_lower_the_bound():
    """The exact E-step on estimates from samples, and the M-step weighted by occupancy, on random tables."""
    for seed in range(3):
        m, start = tabular.problem(seed, STATES, ACTIONS), np.random.default_rng(seed).dirichlet(np.ones(STATES))
        after = np.random.default_rng(seed).integers(STATES, size=(STATES, ACTIONS))
        m = m._replace(p=np.eye(STATES)[after])
        with jax.enable_x64(True):
            steps = Steps(jnp.asarray(after), jnp.asarray(m.reward), jnp.asarray(1.0 - m.end[after]))
        sees = np.arange(STATES) % 2
        p = averaged(tabular.policy(7, STATES, ACTIONS), np.ones(STATES), sees)
        pi, bound = p, [-np.inf]
        for round_ in range(6):
            q = evaluated(m, pi, p)[0]
            with jax.enable_x64(True):
                given = (jnp.asarray(each) for each in (q, np.log(pi), np.log(p)))
                found, error = (
                    np.asarray(e) for e in estimates(steps, *given, jax.random.split(make_key(round_), 16_000))
                )
            assert (np.abs(found - q) <= 5 * error + 1e-3).all()  # actions too rare to be sampled
            pi = boltzmann(found, p)
            bound.append(start @ evaluated(m, pi, p)[1])
            p = averaged(pi, occupancy(m, pi, start), sees)
            bound.append(start @ evaluated(m, pi, p)[1])
        assert np.diff(bound).min() > -3e-3
        assert bound[-1] > bound[1] + 1e-3
