"""What iterative inference promises: one gradient per iteration and none across, and inference state by state."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.core.em import apply_pending
from estep.core.keys import make_key
from estep.core.learned import learn
from estep.core.objective import soft_value
from estep.core.optim import adam
from estep.core.types import Spec
from estep.e_steps.climb import climb_each_state
from estep.families.gaussian import Gaussian
from estep.inference.direct import Direct
from estep.inference.iterative import LIMIT_PENALTY, Iterations, iterative
from estep.nets import MLP, mlp
from oracles import rows


def perturbed(tree, key, size=0.1):
    """The same tree a little away from its zero heads."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten([x + size * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)])


def loss_of(agent, inference, obs, key):
    """-(V + what the earlier iterates add), the E-step's loss in one state."""
    k_infer, k_value = jax.random.split(key)
    q, problem, inferred = agent.infer(inference, agent.likelihood.model, obs, k_infer)
    return -(soft_value(q, problem, k_value, agent.samples)[0] + inferred.earlier)


def by_hand(agent, inference, obs, key):
    """The mean over iterations of each one's own VJP; and of each its start, the gradient it read, and the gradient
    -∂V/∂λ that trained it."""
    problem = agent.problem(agent.likelihood.model, obs)
    k_infer, k_value = jax.random.split(key)
    keys = [*jax.random.split(jax.random.split(k_infer)[1], inference.steps), k_value]
    descent = jax.grad(lambda lam, k: -soft_value(agent.posterior(lam), problem, k, agent.samples)[0])
    lam = agent.posterior.start(agent.prior.model(obs))
    grad, total, constants = descent(lam, keys[0]), jax.tree.map(jnp.zeros_like, inference), []
    for k in keys[1:]:
        read = grad
        new, pull = jax.vjp(
            lambda phi, lam=lam, grad=grad: phi.refine(problem, agent.posterior, lam, grad)[0], inference
        )
        grad = descent(new, k)
        constants.append((lam, read, grad))
        total = jax.tree.map(lambda t, g: t + g / inference.steps, total, pull(grad)[0])
        lam = new
    penalty = replace(total, low=total.low - LIMIT_PENALTY, high=total.high + LIMIT_PENALTY)
    return penalty, constants


@pytest.mark.long
def test_the_gradient_is_the_mean_of_the_gradients_of_the_iterations():
    agent = rows.start("iterative-sac")
    inference = perturbed(agent.inference.model, make_key(4))
    obs, key = jnp.asarray([0.5, -1.0, 0.3]), make_key(5)
    ours = rows.compiled(jax.grad(lambda phi: loss_of(agent, phi, obs, key)))(inference)
    hand, constants = rows.compiled(lambda phi: by_hand(agent, phi, obs, key))(inference)
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, ours, hand)
    assert min(np.abs(leaf).max() for leaf in jax.tree.leaves(ours)) > 1e-4

    # and with every gradient replaced by a number of equal value
    def surrogate(phi):
        problem = agent.problem(agent.likelihood.model, obs)
        news = [phi.refine(problem, agent.posterior, lam, read)[0] for lam, read, _ in constants]
        terms = sum(grad @ new for (_, _, grad), new in zip(constants, news, strict=True)) / phi.steps
        return terms + LIMIT_PENALTY * (phi.high.sum() - phi.low.sum())

    jax.tree.map(close, ours, rows.compiled(jax.grad(surrogate))(inference))


def climbed(agent, batch, key):
    """The agent after one E-step."""
    agent, draws, _, info = climb_each_state(agent, batch, key)
    return apply_pending(agent)[0], draws, info


@pytest.mark.long
def test_one_iteration_that_sees_only_the_state_is_direct_inference():
    spec, tx = Spec(3, 2), adam(3e-4)
    agent = rows.start("sac")
    direct = Direct(mlp((3,), 4, (16, 16), key=make_key(3)), low=-10.0, high=0.5)
    net = direct.net
    blind = (*net.first, jnp.zeros((4, 16)), jnp.zeros((4, 16)))
    shut = jnp.full(4, -1e9)
    both = MLP(
        blind,
        (*net.rest[:-1], jnp.concatenate([net.rest[-1], jnp.zeros((16, 4))], 1)),
        (*net.biases[:-1], jnp.concatenate([net.biases[-1], shut])),
        net.activation,
    )
    one = replace(iterative(3, Gaussian(2), (16, 16), Iterations(1, 1), key=make_key(0)), net=both)
    after = []
    for inference in (direct, one):
        at = replace(agent, inference=learn(inference, tx))
        assert at.spec == spec
        at, draws, info = rows.compiled(climbed)(at, rows.batch(), make_key(9))
        after.append((at.inference.model.net, draws, info["e/value"]))
    (ours, draws, value), (theirs, same_draws, same_value) = after
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6)
    close(value, same_value)
    jax.tree.map(close, draws, same_draws)
    close(theirs.first[0], ours.first[0])
    jax.tree.map(close, theirs.rest[:-1] + theirs.biases[:-1], ours.rest[:-1] + ours.biases[:-1])
    close(theirs.rest[-1][:, :4], ours.rest[-1])
    close(theirs.biases[-1][:4], ours.biases[-1])
    assert np.abs(ours.first[0] - net.first[0]).max() > 1e-4


@pytest.mark.long
def test_states_are_inferred_alone():
    agent = rows.start("iterative-sac")
    inference = perturbed(agent.inference.model, make_key(4))
    obs, keys = jax.random.normal(make_key(0), (16, 3)), jax.random.split(make_key(1), 16)
    infer = rows.compiled(jax.vmap(lambda s, k: agent.infer(inference, agent.likelihood.model, s, k)[2]))
    order = np.random.default_rng(0).permutation(16)
    straight, mixed = infer(obs, keys), infer(obs[order], keys[order])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[order], y, rtol=1e-6, atol=1e-6), straight, mixed)
    others = infer(jnp.concatenate([obs[:1], 100 * obs[1:]]), keys)
    np.testing.assert_allclose(others.lam[0], straight.lam[0], rtol=1e-6, atol=1e-6)


@pytest.mark.long
def test_inference_may_run_longer_than_it_was_trained():
    agent = rows.start("iterative-sac")
    inference = perturbed(agent.inference.model, make_key(4))
    problem = agent.problem(agent.likelihood.model, jnp.ones(3))
    more = Iterations(7, 4)(inference)
    inferred = rows.compiled(lambda i: i(problem, agent.posterior, make_key(2)))(more)
    assert inferred.values.shape == (7,)
    # the same draws again, one iteration at a time
    lam = agent.posterior.start(agent.prior.model(jnp.ones(3)))
    for key in jax.random.split(jax.random.split(make_key(2))[1], 7):
        lam, _ = inference.refine(problem, agent.posterior, lam, descend(agent, problem, lam, key))
    np.testing.assert_allclose(inferred.lam, lam, rtol=1e-5, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, more.net, inference.net)


@pytest.mark.long
def test_the_result_may_be_the_mean_of_the_last_iterates():
    agent = rows.start("iterative-sac")
    problem = agent.problem(agent.likelihood.model, jnp.ones(3))
    inference = Iterations(7, 4, average=3)(perturbed(agent.inference.model, make_key(4)))
    found = rows.compiled(lambda i: i(problem, agent.posterior, make_key(2)))(inference).lam
    path = rows.compiled(lambda i: i.path(problem, agent.posterior, make_key(2), 7))(inference)
    np.testing.assert_allclose(found, path[-3:].mean(0), rtol=1e-5, atol=1e-6)
    assert np.abs(found - path[-1]).max() > 1e-4


@pytest.mark.long
def test_a_direct_start_is_trained_by_the_gradient_of_v_where_inference_starts_and_by_nothing_else():
    agent = rows.start("iterative-sac")
    head = Direct(mlp((3,), 4, (16,), key=make_key(8)))
    inference = replace(perturbed(agent.inference.model, make_key(4)), start=head)
    problem, key = agent.problem(agent.likelihood.model, jnp.ones(3)), make_key(2)
    first = jax.random.split(jax.random.split(key)[1], inference.steps)[0]

    def climbed(inference):
        inferred = inference(problem, agent.posterior, key)
        return soft_value(agent.posterior(inferred.lam), problem, make_key(5), 4)[0] + inferred.earlier

    def alone(head):
        lam = head(problem, agent.posterior, make_key(6)).lam
        return soft_value(agent.posterior(lam), problem, first, inference.samples)[0]

    ours = rows.compiled(jax.grad(climbed))(inference)
    theirs = rows.compiled(jax.grad(alone))(head)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), ours.start, theirs)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(theirs)) > 1e-3
    found = rows.compiled(lambda i: i.path(problem, agent.posterior, key, 1))(inference)
    np.testing.assert_allclose(found[0], head(problem, agent.posterior, key).lam, rtol=1e-6)


@rows.compiled
def descend(agent, problem, lam, key):
    return jax.grad(lambda lam: -soft_value(agent.posterior(lam), problem, key, 4)[0])(lam)


def bandit_table():
    sys.path.insert(0, str(Path(__file__).parents[1] / "experiments" / "bandit_table"))  # it imports what is beside it
    try:
        return importlib.import_module("bandit_table")
    finally:
        sys.path.pop(0)


@pytest.mark.long
def test_iterative_inference_beats_direct_on_the_bandit_and_improves_with_every_iteration():
    table = bandit_table()
    bandit = table.BANDITS["quadratic"](0)._replace(hidden=(64, 64))
    objective, states = bandit.training, bandit.held_out
    best = table.references(bandit.best, table.fresh(table.VARIANTS["direct"], bandit, 0), objective, states)
    gap = {}
    for name in ("direct", "5x2 antithetic"):
        variant = table.VARIANTS[name]
        variant = variant._replace(row=replace(variant.row, learning_rate=1e-3))
        agent, _ = table.train(table.fresh(variant, bandit, 0), bandit, 0, 1500)
        gap[name] = np.asarray(table.mean_gaps(bandit.gaps, replace(agent, samples=10), objective, states, best))
    iterative_gap = gap["5x2 antithetic"]
    assert iterative_gap[5] < 0.2 * gap["direct"][5]
    assert (iterative_gap[1:6] < 1.05 * iterative_gap[:5]).all()
    assert (iterative_gap[6:11] < 1.05 * iterative_gap[5:10] + 0.01).all()
