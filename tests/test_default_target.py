"""The critic's target of `default-policy` on recorded numbers: that of the public Retrace with the KL in its values."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep import DefaultPolicy, Spec, Transition, make_key
from estep.core.learned import fixed
from estep.core.slots import Inference, Inferred, Likelihood, Prior
from estep.families.gaussian import Gaussian, Normal
from estep.likelihoods.targets import Retrace
from estep.m_steps.temperature import Constant
from estep.priors.tempered import Tempered
from oracles import rows

RECORDED = json.loads((Path(__file__).parent / "oracles" / "default_policy_target.json").read_text())
X = {name: np.asarray(value, np.float32) for name, value in RECORDED.items()}
STEPS, STATES = len(X["reward"]), len(X["q_bias"])


class TablePrior(Prior):
    """p of each of the states, which are one-hot."""

    mu: jax.Array
    log_sigma: jax.Array

    def __call__(self, obs):
        return Normal(obs @ self.mu, obs @ self.log_sigma)


class TablePolicy(Inference):
    """λ of each of the states."""

    lam: jax.Array

    def __call__(self, problem, posterior, key):
        return Inferred(problem.obs @ self.lam, jnp.zeros(()), jnp.zeros(0))


class Hill(Likelihood):
    """Q̂ = bias + slope · a - |a|² in each of the states, a = tanh u."""

    bias: jax.Array
    slope: jax.Array

    def __call__(self, problem, action, key):
        a = jnp.tanh(action)
        return problem.obs @ self.bias + (problem.obs @ self.slope) @ a - a @ a

    def loss(self, batch, bootstrap, key):
        raise NotImplementedError


def recorded_noise(key, n, size):
    """The noise of the file, in every state."""
    assert (n, size) == X["noise"].shape
    return jnp.asarray(X["noise"])


def agent_of(entropy_cost):
    """An agent of the row whose parts are the tables of the file, with the price of the KL in the file."""
    row = DefaultPolicy(hidden_sizes=(8,), kl_cost=float(X["alpha"]), entropy_cost=entropy_cost, entropy_in="policy")
    fresh = rows.compiled(lambda key: row.init(Spec(STATES, 2, tasks=2), key))(make_key(0))
    price = float(X["alpha"]) + entropy_cost
    base = TablePrior(jnp.asarray(X["prior_mu"]), jnp.asarray(X["prior_log_sigma"]))
    lam = jnp.asarray(np.concatenate([X["policy_mu"], X["policy_log_sigma"]], axis=1))
    return replace(
        fresh,
        prior=fixed(Tempered(base, fresh.spec.squash, float(X["alpha"]) / price)),
        posterior=Gaussian(2, recorded_noise),
        inference=fixed(TablePolicy(lam)),
        likelihood=fixed(Hill(jnp.asarray(X["q_bias"]), jnp.asarray(X["q_slope"]))),
        temperature=fixed(Constant(jnp.asarray(price))),
        target_samples=len(X["noise"]),
    )


@pytest.mark.parametrize("entropy_cost", [0.0, 0.2])
def test_the_target_is_that_of_the_public_implementation_on_recorded_numbers(entropy_cost):
    """As in public code, the price of entropy is in the policy alone, so the target does not depend on it."""
    agent = agent_of(entropy_cost)
    here = np.eye(STATES, dtype=np.float32)
    last, alive = np.zeros(STEPS, np.float32), np.ones(STEPS, np.float32)
    last[[RECORDED["last"], RECORDED["terminal"]]], alive[RECORDED["terminal"]] = 1.0, 0.0
    memo = {"log_prob": X["behaviour_log_prob"][:, None]}
    steps = Transition(here[0::2], X["action"], X["reward"], alive, here[1::2], last, memo)
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], steps)
    target = rows.compiled(lambda agent: Retrace(1.0)(batch, agent.bootstrap(agent), make_key(1), float(X["gamma"])))
    np.testing.assert_allclose(target(agent)[0], X["target"], rtol=1e-5, atol=1e-5)
