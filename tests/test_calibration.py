"""The return that Q̂ is compared with, in closed form: it has the KL of the policy, or its name says that it has not."""

from dataclasses import replace
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.algorithms.sac import SAC
from estep.core.keys import make_key
from estep.core.learned import fixed
from estep.core.slots import Likelihood
from estep.core.types import OneHot, Spec
from estep.envs.base import Step
from estep.errors import UsageError
from estep.inference.starts import At
from estep.instruments.calibration import calibration
from estep.instruments.states import check_rewards
from estep.likelihoods.q_function import Pessimism, minimum
from estep.m_steps.temperature import Constant
from estep.priors.uniform import Uniform
from estep.settings.run import RunConfig
from oracles import rows

ALPHA, GAMMA, LENGTH = 0.3, 0.9, 40


class Steady:
    """Reward 1 at every step. Episodes terminate after `LENGTH` steps."""

    num_envs = 1

    def __init__(self, spec):
        self.spec, self.t = spec, 0

    def reset(self):
        return np.ones((1, self.spec.obs_dim), np.float32)

    def step(self, action):
        self.t += 1
        ended, never = np.full(1, self.t % LENGTH == 0), np.zeros(1, bool)
        return Step(self.reset(), np.ones(1, np.float32), ended, never, ~never, self.reset())


class Known(Likelihood):
    """A critic that says 2 everywhere."""

    gamma: float = eqx.field(static=True, default=GAMMA)
    pessimism: Pessimism = eqx.field(static=True, default=minimum)

    def values(self, obs, action):
        return jnp.full(2, 2.0)

    def __call__(self, problem, action, key):
        return self.values(problem.obs, action).min()

    def loss(self, batch, bootstrap, key):
        return jnp.zeros(()), {}


def returns(price):
    """G_t of rewards of 1, and of a price that later steps have and the step itself has not."""
    later = GAMMA * (1.0 - GAMMA ** np.arange(LENGTH - 1, -1, -1)) / (1.0 - GAMMA)
    return 1.0 + later * (1.0 - price)


def measured(agent):
    agent = replace(agent, likelihood=fixed(Known()), temperature=fixed(Constant(jnp.asarray(ALPHA))))
    found = calibration(agent, Steady(agent.spec), None, make_key(0), 1)
    return found, np.asarray([pair.earned for pair in found.pairs])


@pytest.mark.parametrize("logits", [(0.0, 0.0, 0.0), (2.0, 0.0, -1.0)])
def test_the_kl_of_a_discrete_policy_to_the_uniform_prior_is_charged_in_full(logits):
    spec = Spec(2, 3, OneHot())
    agent = replace(SAC(hidden_sizes=(8,)).init(spec, make_key(0)), prior=fixed(Uniform(spec)))
    agent = replace(agent, inference=fixed(At(jnp.asarray(logits))))
    q = np.asarray(jax.nn.softmax(jnp.asarray(logits)), np.float64)
    found, earned = measured(agent)
    np.testing.assert_allclose(earned, returns(ALPHA * q @ np.log(3.0 * q)), rtol=1e-5)
    assert (found.soft, found.kind) == (True, "soft return")


def test_a_sampler_without_a_density_has_the_plain_return_and_says_so():
    found, earned = measured(rows.start("sql"))
    np.testing.assert_allclose(earned, returns(0.0), rtol=1e-5)
    assert not found.soft
    assert found.kind == "plain return (Q̂ has the KL as a cost, and this policy has no density to know it)"


def test_where_values_are_plain_the_return_is_plain_and_nothing_is_missing():
    found, earned = measured(rows.start("mpo"))
    np.testing.assert_allclose(earned, returns(0.0), rtol=1e-5)
    assert (found.soft, found.kind) == (False, "plain return")


@pytest.mark.parametrize("flag", ["reward_scale", "normalise_rewards"])
def test_values_of_scaled_rewards_are_not_compared_with_returns(flag):
    check_rewards(SimpleNamespace(run=RunConfig()))
    scaled = RunConfig(**{flag: (0.1,) if flag == "reward_scale" else True})
    with pytest.raises(UsageError, match=flag):
        check_rewards(SimpleNamespace(run=scaled))
