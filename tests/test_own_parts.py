"""A part of somebody's own that does not give what its slot promises is named before the first step."""

from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from estep import SAC, Compose, train, update
from estep.algorithms.contract import check_own, check_parts, check_update, is_own
from estep.core.agent import Agent
from estep.core.keys import make_key
from estep.core.learned import fixed, learn
from estep.core.optim import ZERO
from estep.core.slots import Inference, Inferred, Likelihood, Temperature
from estep.core.types import Spec
from estep.errors import UsageError
from estep.families.gaussian import Gaussian, Normal
from estep.priors.gaussian import FixedGaussian
from estep.runs.leaves import skeleton
from oracles import rows

A, SPEC = 2, Spec(3, 2)


class ShortLam(Inference):
    def __call__(self, problem, posterior, key):
        return Inferred(jnp.zeros(A), jnp.zeros(()), jnp.zeros(0))


class Vector(Temperature):
    def __call__(self, obs):
        return jnp.ones(1)

    def loss(self, kl, obs):
        return jnp.zeros(()), {}


class TwoValues(Likelihood):
    def __call__(self, problem, action, key):
        return jnp.stack([action.sum(), action.sum()])

    def loss(self, batch, bootstrap, key):
        return jnp.zeros(()), {}


class Wide(Gaussian):
    def __call__(self, lam):
        return Normal(jnp.zeros(A + 1), jnp.zeros(A + 1))


class Unsummed(Normal):
    def log_prob(self, action):
        return -action * action


class Raising(FixedGaussian):
    def __call__(self, obs):
        raise ValueError("a mistake")


class UnsummedPrior(FixedGaussian):
    def __call__(self, obs):
        return Unsummed(jnp.zeros(A), jnp.zeros(A))


def vector_metric(e_step, agent, batch, key):
    agent, draws, memo, info = e_step(agent, batch, key)
    return agent, draws, memo, info | {"e/each": draws.weight}


def longer_prior(e_step, agent, batch, key):
    agent, draws, memo, info = e_step(agent, batch, key)
    return replace(agent, prior=fixed(FixedGaussian(jnp.zeros(1), jnp.ones(1)))), draws, memo, info


def made(**parts) -> Agent:
    agent = rows.starter("sac")(make_key(0))
    return replace(agent, **parts)


WRONG = {
    "prior of another size": (
        {"prior": fixed(FixedGaussian(jnp.zeros(A + 1), jnp.ones(A + 1)))},
        r"sample of the prior FixedGaussian has the shape \(3,\), not \(2,\)",
    ),
    "density that is not summed": (
        {"prior": fixed(UnsummedPrior(jnp.zeros(A), jnp.ones(A)))},
        r"log density of the prior test_own_parts:UnsummedPrior has the shape \(2,\), not \(\)",
    ),
    "prior that raises": (
        {"prior": fixed(Raising(jnp.zeros(A), jnp.ones(A)))},
        r"prior test_own_parts:Raising raised ValueError: a mistake \(test_own_parts\.py, line \d+\)",
    ),
    "temperature": ({"temperature": fixed(Vector())}, r"α of the temperature .*:Vector has the shape \(1,\)"),
    "likelihood": ({"likelihood": fixed(TwoValues())}, r"Q̂ of the likelihood .*:TwoValues has the shape \(2,\)"),
    "inference": ({"inference": fixed(ShortLam())}, r"λ of the inference optimiser .*:ShortLam has .*, not \(4,\)"),
    "posterior": ({"posterior": Wide(A)}, r"sample of the posterior .*:Wide has the shape \(3,\), not \(2,\)"),
    "behaviour": (
        {"behave": lambda agent, obs, key: Normal(jnp.zeros(1), jnp.zeros(1))},
        r"sample of the behaviour .* has the shape \(1,\)",
    ),
}


@pytest.mark.parametrize(("parts", "message"), WRONG.values(), ids=WRONG)
def test_a_part_with_another_shape_is_named(parts, message):
    with pytest.raises(UsageError, match=message) as caught:
        check_parts(made(**parts))
    assert caught.value.fix


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (vector_metric, r"metric e/each of an update has the shape \(8, 1\)"),
        (longer_prior, r"changes prior\.model\.density\.log_sigma of the agent from None to float32\[1\]"),
    ],
)
def test_an_update_that_changes_the_agent_or_logs_arrays_is_refused(wrap, message):
    agent = made()
    with pytest.raises(UsageError, match=message):
        check_update(replace(agent, e_step=partial(wrap, agent.e_step)), rows.BATCH)


@pytest.mark.parametrize("name", rows.EVERY)
def test_every_algorithm_keeps_its_promises(name):
    agent = jax.eval_shape(rows.starter(name), make_key(0))
    check_parts(agent)
    check_update(agent, rows.BATCH)


class Network(Likelihood):
    """Q̂ by a network of Equinox, whose activation is a leaf."""

    net: eqx.nn.MLP
    scale: Any = eqx.field(static=True, default=1.0)

    def __call__(self, problem, action, key):
        return self.scale * self.net(jnp.concatenate([problem.obs, action]))[0]

    def loss(self, batch, bootstrap, key):
        rows = jax.tree.map(lambda part: part[:, 0], batch)
        q = jax.vmap(lambda obs, action: self.net(jnp.concatenate([obs, action]))[0])(rows.obs, rows.action)
        return jnp.square(q - rows.reward).mean(), {}


class Scaled(Network):
    factor: Any = 1.0


def net(spec, key):
    return eqx.nn.MLP(spec.obs_dim + spec.action_dim, 1, 8, 1, key=key)


def by_equinox(settings, spec, key):
    return Network(net(spec, key))


def test_a_part_may_hold_a_network_of_equinox():
    agent = Compose(likelihood="test_own_parts:by_equinox", hidden_sizes=(8,)).init(SPEC, make_key(0))
    check_parts(agent)
    check_update(agent, rows.BATCH)
    given = jnp.ones(SPEC.obs_dim + SPEC.action_dim)
    before = net(SPEC, make_key(0))
    held = learn(Network(before), ZERO).model.net
    assert jnp.array_equal(held(given), before(given))
    after = update(agent, rows.batch(0), make_key(2))[0].likelihood.model.net
    assert not jnp.array_equal(after.layers[0].weight, agent.likelihood.model.net.layers[0].weight)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (0.5, r"Scaled\.factor is float, and a part learns arrays of floats alone"),
        (jnp.arange(3), r"Scaled\.factor is an array of int32"),
        ("half", r"Scaled\.factor is str"),
    ],
)
def test_what_is_no_parameter_must_be_static(factor, message):
    with pytest.raises(UsageError, match=message) as caught:
        learn(Scaled(net(SPEC, make_key(0)), factor=factor), ZERO)
    assert "static=True" in caught.value.fix


class Loose(Gaussian):
    """A family with a field that is not static."""

    factor: Any = 1.0


def loose(settings, spec):
    return Loose(spec.action_dim)


def test_a_number_in_a_family_is_refused_before_it_is_traced():
    with pytest.raises(UsageError, match=r"^posterior\.factor of the agent is float, and no array"):
        skeleton(Compose(posterior="test_own_parts:loose"), SPEC)


def wide_prior(settings, spec, key):
    return FixedGaussian(jnp.zeros(spec.action_dim + 1), jnp.ones(spec.action_dim + 1))


def raising_prior(settings, spec, key):
    return Raising(jnp.zeros(spec.action_dim), jnp.ones(spec.action_dim))


@pytest.mark.parametrize("population", [None, 2])
@pytest.mark.parametrize(("prior", "message"), [(wide_prior, "sample of the prior"), (raising_prior, "a mistake")])
def test_a_run_with_it_ends_before_there_is_a_folder(prior, message, population, tmp_path):
    with pytest.raises(UsageError, match=message):
        train(Compose(prior=prior, hidden_sizes=(8,)), "Pendulum-v1", steps=100, population=population, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_the_library_has_is_not_checked_again():
    assert not is_own(SAC())
    assert is_own(Compose(prior=wide_prior))
    check_own(SAC(), made(prior=fixed(Raising(jnp.zeros(A), jnp.ones(A)))), rows.BATCH)
