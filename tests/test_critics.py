"""What critics and policies may be made of, and how a critic is fitted: norms, residual networks, histograms."""

import dataclasses
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.algorithms import SAC, Compose
from estep.core.em import update
from estep.core.keys import make_key
from estep.core.learned import Constrained
from estep.core.types import Spec
from estep.errors import UsageError
from estep.likelihoods.losses import HLGauss, regression_of
from estep.likelihoods.q_function import q_of
from estep.nets import MLP, Body, Simba, SimbaV2, glorot, layer_norm, network, small_init, with_bias, zeros
from oracles import rows

OBS, ACTION = jnp.asarray([0.5, -1.0, 0.2]), jnp.asarray([0.3, -0.7])
SPEC = Spec(3, 2)
KINDS = {
    "layer": Body((8, 8), norm=True),
    "elu": Body((8, 8), norm=True, activation="elu"),
    "silu": Body((8, 8), activation="silu"),
    "simba": Body((8, 8), network="simba"),
    "simba2": Body((8, 8), network="simba2"),
}
every_kind = pytest.mark.parametrize("body", KINDS.values(), ids=list(KINDS))


def net_of(body, **settings):
    return network((3, 2), 4, body, key=make_key(0), **settings)


@pytest.mark.parametrize("scale", [0.1, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_a_normalised_layer_has_mean_0_and_variance_1(scale, offset):
    x = scale * (jax.random.normal(make_key(0), (256,)) + offset)
    y = np.asarray(layer_norm(x), np.float64)
    assert abs(y.mean()) < 1e-5
    assert abs(y.var() - 1) < 1e-5


@pytest.mark.parametrize("x", [jnp.zeros(8), jnp.full(8, 3.0), jnp.full(8, 1e6), 1e6 * jnp.arange(8.0), jnp.ones(1)])
def test_a_normalised_layer_has_finite_gradients(x):
    slope = jax.jacobian(layer_norm)(x)
    assert np.isfinite(layer_norm(x)).all()
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() <= 1e4


def test_the_norm_comes_before_the_bias_and_after_the_inputs_are_summed():
    bias = jnp.arange(8.0)
    net = replace(net_of(Body((8, 8), norm=True)), biases=(bias, -bias, jnp.zeros(4)))
    one = layer_norm(jnp.concatenate([OBS, ACTION]) @ jnp.concatenate(net.first)) + bias
    two = layer_norm(jax.nn.relu(one) @ net.rest[0]) - bias
    np.testing.assert_allclose(net(OBS, ACTION), jax.nn.relu(two) @ net.rest[1], atol=1e-5)


@every_kind
def test_a_network_alone_is_that_of_a_batch(body):
    net, obs, action = net_of(body), jax.random.normal(make_key(1), (5, 3)), jax.random.normal(make_key(2), (5, 2))
    many = jax.vmap(net)(obs, action)
    np.testing.assert_allclose(many, [net(s, a) for s, a in zip(obs, action, strict=True)], atol=1e-6)


@every_kind
@pytest.mark.parametrize("size", [0.0, 1.0, 1e6])
def test_a_network_has_finite_gradients(body, size):
    slopes = jax.grad(lambda net, s, a: net(s, a).sum(), (0, 1, 2))(net_of(body), size * OBS, size * ACTION)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


@every_kind
def test_many_actions_of_one_state_cost_one_product_of_the_state(body):
    many = jax.vmap(net_of(body), (None, 0))
    products = [e for e in jax.make_jaxpr(many)(OBS, jnp.ones((7, 2))).eqns if e.primitive.name == "dot_general"]
    assert [e.outvars[0].aval.shape for e in products if e.invars[0].aval.shape == (3,)] == [(8,)]


@every_kind
def test_a_fresh_network_keeps_its_initialiser_and_takes_a_bias(body):
    bias = jnp.asarray([1.0, -2.0, 3.0, 0.5])
    np.testing.assert_array_equal(with_bias(net_of(body, head=zeros), bias)(OBS, ACTION), bias)
    wide, small = (net_of(body, head=head)(OBS, ACTION) for head in (glorot, small_init))
    np.testing.assert_allclose(small, 0.01 * wide, rtol=1e-4)
    assert np.abs(wide).max() > 1e-3


def spheres(module):
    """The lengths of all weights that lead to one unit of the networks on the sphere."""
    parts = jax.tree.leaves(module, is_leaf=lambda part: isinstance(part, Constrained))
    nets = [part for part in parts if isinstance(part, SimbaV2)]
    assert nets
    weights = [w for n in nets for w in (jnp.concatenate([*n.first, n.shift]), *n.up, *n.down, n.last, n.head)]
    return np.concatenate([np.linalg.norm(np.asarray(w, np.float64), axis=0) for w in weights])


def test_weights_stay_on_the_sphere_and_a_skipped_update_leaves_them():
    row = SAC(hidden_sizes=(8, 8), network="simba2", critic_loss="hl-gauss", learning_rate=0.1)
    agent, step = row.init(rows.SPEC, make_key(0)), rows.compiled(update)
    batch = rows.batch(seed=1)
    for key in jax.random.split(make_key(1)):
        before = agent
        agent, info = step(agent, batch, key)
        assert info["skipped"] == 0
        for part in (agent.inference.model, agent.likelihood.model, agent.likelihood.slow):
            np.testing.assert_allclose(spheres(part), 1.0, atol=1e-6)
    moved = jnp.abs(agent.likelihood.model.members[0].head - before.likelihood.model.members[0].head)
    assert moved.max() > 1e-3
    after, info = step(agent, batch._replace(reward=jnp.full_like(batch.reward, jnp.nan)), make_key(2))
    assert info["skipped"] == 1
    for name in ("inference", "likelihood"):
        jax.tree.map(np.testing.assert_array_equal, getattr(after, name).model, getattr(agent, name).model)
        jax.tree.map(np.testing.assert_array_equal, getattr(after, name).slow, getattr(agent, name).slow)


FORM = HLGauss(-10.0, 30.0)


def test_the_mean_of_a_histogram_is_its_target_and_what_is_outside_is_clipped():
    inside = jnp.linspace(-10.0, 30.0, 1001)
    mass = jax.vmap(FORM.histogram)(inside)
    np.testing.assert_allclose(mass.sum(1), 1.0, atol=1e-5)
    values = jax.vmap(FORM.value)(jnp.log(mass + 1e-30))
    assert np.abs(values - inside).max() < 1e-2 * FORM.width
    outside = jnp.asarray([-1e9, -10.1, -10.0, 0.0, 30.0, 30.1, 1e9, jnp.inf])
    found = jax.vmap(lambda y: FORM.value(jnp.log(FORM.histogram(y) + 1e-30)))(outside)
    np.testing.assert_allclose(found, np.clip(outside, -10, 30), atol=1e-2 * FORM.width)
    assert float(FORM.info(outside)["critic/outside"]) == 5 / 8


def test_the_loss_is_least_at_the_histogram_of_the_target_and_pulls_the_mean_to_it():
    target, start = jnp.asarray(7.3), FORM.bias
    best = jnp.log(FORM.histogram(target) + 1e-30)
    assert FORM.loss(best, target) < FORM.loss(start, target)
    np.testing.assert_allclose(jax.grad(FORM.loss)(best, target), 0.0, atol=1e-5)
    logits = jax.lax.fori_loop(0, 200, lambda _, x: x - jax.grad(FORM.loss)(x, target), start)
    assert abs(FORM.value(logits) - target) < 0.2 * FORM.width


@pytest.mark.parametrize("limits", [(-10.0, 10.0), (0.0, 400.0), (-1000.0, 0.0), (-3.0, 1.0)])
def test_a_fresh_critic_has_a_histogram_about_0(limits):
    critic = q_of(SAC(hidden_sizes=(32,), critic_loss="hl-gauss", value_range=limits), SPEC, key=make_key(0))
    width = critic.regression.width
    assert np.abs(critic.values(OBS, ACTION)).max() < 0.6 * width
    mass = jax.nn.softmax(critic.outputs(OBS, ACTION)[0])
    near = np.abs(np.asarray([critic.regression.value(row) for row in jnp.log(jnp.eye(101) + 1e-30)])) < 4 * width
    assert mass[near].sum() > 0.98


@pytest.mark.parametrize("name", ["mlp", "simba", "simba2"])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e6])
def test_a_histogram_critic_has_finite_gradients_to_the_action(name, size):
    critic = q_of(SAC(hidden_sizes=(8, 8), network=name, critic_loss="hl-gauss"), SPEC, key=make_key(0))
    assert np.isfinite(jax.jacobian(lambda u: critic.values(size * OBS, u))(size * ACTION)).all()


def test_a_range_that_is_not_given_follows_from_the_discount_and_scales_squares_on_the_sphere():
    found = regression_of(SAC(gamma=0.75, critic_loss="hl-gauss"))
    assert (found.low, found.high) == (-20.0, 20.0)
    assert regression_of(SAC(network="simba2", hidden_sizes=(8,), value_range=(-10, 40))).unit == 8.0
    assert regression_of(SAC()).unit == 1.0


def test_the_critic_has_sizes_norm_and_activation_of_its_own():
    row = SAC(hidden_sizes=(8,), critic_hidden_sizes=(4, 6), critic_norm="layer", critic_activation="elu")
    agent = row.init(SPEC, make_key(0))
    critic, policy = agent.likelihood.model.members[0], agent.inference.model.net
    assert [len(bias) for bias in critic.biases] == [4, 6, 1]
    assert [len(bias) for bias in policy.biases] == [8, 4]
    assert (critic.norm, policy.norm) == (True, False)
    assert (critic.activation, policy.activation) == (jax.nn.elu, jax.nn.relu)


@pytest.mark.parametrize(("name", "kind"), [("mlp", MLP), ("simba", Simba), ("simba2", SimbaV2)])
def test_policy_and_critic_are_made_of_the_network(name, kind):
    agent = SAC(hidden_sizes=(8,), network=name).init(SPEC, make_key(0))
    assert {type(agent.inference.model.net), type(agent.likelihood.model.members[1])} == {kind}


REFUSED = {
    "have a normalisation of their own": {"network": "simba", "critic_norm": "layer"},
    "hidden_sizes has different sizes": {"network": "simba2", "hidden_sizes": (8, 16)},
    "critic_hidden_sizes has different": {"network": "simba", "critic_hidden_sizes": (8, 16)},
    "no range of values": {"value_range": (-1.0, 1.0)},
    "a lower and an upper limit": {"critic_loss": "hl-gauss", "value_range": (1.0, -1.0)},
}


@pytest.mark.parametrize("kind", [SAC, Compose])
@pytest.mark.parametrize("why", REFUSED)
def test_what_does_not_go_together_is_refused(kind, why):
    with pytest.raises(UsageError, match=why):
        kind(**REFUSED[why])


@pytest.mark.parametrize("critic", [{"critic_loss": "hl-gauss"}, {"network": "simba2"}])
def test_a_state_value_has_no_histogram(critic):
    fresh = {"likelihood": "state-value", "inference": "advantages", "prior": "learned", "act_with": "prior"}
    with pytest.raises(UsageError, match="of action values"):
        Compose(posterior="boltzmann", **fresh, **critic)
    made = Compose(posterior="boltzmann", **fresh, critic_norm="layer").init(SPEC, make_key(0))
    assert made.likelihood.model.net.norm


def test_the_fields_of_the_critic_come_after_those_of_before():
    names = [field.name for field in dataclasses.fields(SAC)]
    assert names.index("beta") < names.index("network") < names.index("entropy")
