"""Which critic inference maximises, how pessimistic it is there, and by what an agent acts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.core.keys import make_key
from estep.core.learned import learn
from estep.core.optim import adam
from estep.core.slots import Problem
from estep.core.types import Spec
from estep.likelihoods.maximised import Maximised, RelativeQ
from estep.likelihoods.q_function import MeanMinusStd, q_function
from estep.priors.flat import Flat

SPEC = Spec(3, 2)
OBS, U, KEY = jnp.asarray([0.5, -1.0, 0.2]), jnp.asarray([0.3, -0.7]), make_key(0)


def ensemble(members, beta=1.0):
    return q_function(members, SPEC, (8,), MeanMinusStd(beta), 0.9, key=KEY)


def relative(critic, start):
    """The estimate of an inference that starts at an action, as a function of the action."""
    estimate = RelativeQ(critic).relative_to(OBS, lambda: start)
    problem = Problem(OBS, Flat(SPEC), estimate, jnp.asarray(0.1))
    return lambda action: estimate(problem, action, KEY)


@pytest.mark.parametrize("members", [2, 3, 5])
def test_the_penalty_and_its_gradient_are_zero_at_the_start(members):
    critic = ensemble(members, beta=7.0)
    mean = lambda action: critic.values(OBS, action).mean()
    value, slope = jax.value_and_grad(relative(critic, U))(U)
    np.testing.assert_allclose(value, mean(U), atol=1e-6)
    np.testing.assert_allclose(slope, jax.grad(mean)(U), atol=1e-6)
    assert relative(critic, U)(-U) < mean(-U) - 1e-3  # elsewhere it costs


def test_of_two_members_it_is_the_smaller_gain():
    critic, estimate = ensemble(2), relative(ensemble(2), U)
    for action in jax.random.normal(KEY, (20, 2)):
        gains = critic.values(OBS, action) - critic.values(OBS, U)
        np.testing.assert_allclose(estimate(action) - estimate(U), gains.min(), atol=1e-6)


def test_the_value_of_the_state_costs_nothing():
    """A member that is higher by 100 in every action changes no gain."""
    critic = ensemble(2)
    high = dataclasses.replace(critic.members[1], biases=(*critic.members[1].biases[:-1], jnp.asarray([100.0])))
    other = dataclasses.replace(critic, members=(critic.members[0], high))
    one, two = relative(critic, U), relative(other, U)
    np.testing.assert_allclose(two(-U) - two(U), one(-U) - one(U), atol=1e-4)


def test_the_start_has_no_gradient():
    estimate = lambda start: relative(ensemble(2), start)(-U)
    # the mean of the members at a_0 is a constant of the state, and so is what the gain is taken from
    np.testing.assert_array_equal(jax.grad(estimate)(U), jnp.zeros(2))


def test_pessimism_of_acting_is_another_rule_on_the_same_networks():
    critic = learn(ensemble(2), adam(1e-3), tau=0.1)
    acting = Maximised("slow", beta=0.5)(critic)
    assert acting.pessimism == MeanMinusStd(0.5)
    assert all(x is y for x, y in zip(jax.tree.leaves(acting), jax.tree.leaves(critic.slow), strict=True))
