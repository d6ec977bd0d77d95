"""E-steps on the actions that were taken: V-MPO's weights, and policy gradients that are soft Q-learning."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from estep.algorithms import VMPO, SoftPG
from estep.core import em
from estep.core.bootstrap import posterior_value, sampled_posterior_value
from estep.core.em import apply_pending
from estep.core.keys import make_key
from estep.core.learned import fixed
from estep.core.slots import Bootstrap, Draws, Inference, Inferred, Prior
from estep.core.types import OneHot, Spec, Transition
from estep.e_steps.actions_taken import BatchWeights, ScoreFunction, policy_gradient, soft_q_learning, top_weights
from estep.envs.gymnasium import make
from estep.families.categorical import Categorical, categorical_kl
from estep.families.gaussian import Normal
from estep.likelihoods.state_value import StateValue, state_value
from estep.m_steps import trust_region as regions
from estep.m_steps.multipliers import Multiplier
from estep.m_steps.temperature import KLConstraint
from estep.settings.run import RunConfig
from estep.training.trainer import Trainer
from oracles import rows

RLAX = json.loads((Path(__file__).parent / "oracles" / "rlax_vmpo.json").read_text())


class Table(Prior):
    """A Gaussian for each of b states, told apart by one-hot observations."""

    mu: jax.Array
    log_sigma: jax.Array

    def __call__(self, obs):
        return Normal(obs @ self.mu, obs @ self.log_sigma)


def kl_to_equal(log_psi):
    """KL(ψ‖equal weights over what is kept)."""
    psi = np.exp(np.asarray(log_psi, np.float64))
    psi = psi[psi > 0]
    return float((psi * np.log(len(psi) * psi)).sum())


def test_weights_and_gradients_are_those_of_rlax():
    x = {name: jnp.asarray(bootstrap, jnp.float32) for name, bootstrap in RLAX["inputs"].items()}
    wanted = {name: np.asarray(bootstrap) for name, bootstrap in RLAX["outputs"].items()}
    log_psi = top_weights(x["advantage"], x["eta"], 0.5)
    # rlax keeps the ties of the smallest, so of 13 it keeps as many as we do: 6
    np.testing.assert_allclose(np.exp(log_psi), wanted["weights"], atol=1e-6)
    assert int((log_psi > -np.inf).sum()) == 6
    np.testing.assert_allclose(RLAX["epsilon"] - kl_to_equal(log_psi), wanted["d_eta"], atol=1e-5)

    b = len(log_psi)
    own = {"policy": Multiplier(jnp.log(x["alpha"])[None], RLAX["epsilon_kl"])}
    region = regions.TrustRegion(own, None, regions.coupled, regions.joint)
    prior = replace(fixed(Table(x["mu"], x["log_sigma"])), target=Table(x["old_mu"], x["old_log_sigma"]))
    draws = Draws(x["action"][:, None], b * jnp.exp(log_psi)[:, None], jnp.zeros((b, 1)))
    stepped, (means, _) = rows.compiled(lambda r, p, d: r.descend(p, d, None, jnp.eye(b)))(region, prior, draws)
    gradient = np.asarray(stepped.pending.gradient).reshape(2, b, -1)
    np.testing.assert_allclose(gradient[0], wanted["d_mu"], atol=1e-5)
    np.testing.assert_allclose(gradient[1], wanted["d_log_sigma"], atol=1e-5)
    d_alpha = jax.grad(lambda region: region.loss(means, None)[0])(region).multipliers["policy"].log_alpha
    np.testing.assert_allclose(d_alpha / x["alpha"], wanted["d_alpha"], atol=1e-5)


def test_weights_see_differences_alone():
    advantage = jnp.asarray(np.random.default_rng(0).standard_normal(40), jnp.float32)
    eta = jnp.asarray(0.5)
    np.testing.assert_allclose(top_weights(advantage + 64.0, eta, 0.5), top_weights(advantage, eta, 0.5), atol=2e-5)
    equal = np.exp(top_weights(jnp.full(41, 7.0), eta, 0.5))
    np.testing.assert_allclose(equal, [1 / 20] * 20 + [0] * 21, rtol=1e-6)
    huge = top_weights(1e4 * advantage, jnp.asarray(1e-4), 0.5)
    assert np.isfinite(np.exp(huge)).all()
    assert np.exp(huge).max() == 1.0


@pytest.mark.long
def test_at_the_optimum_of_the_dual_the_kl_is_its_bound():
    advantage = jnp.asarray(np.random.default_rng(2).standard_normal(64), jnp.float32)
    epsilon = 0.2
    kl = lambda log_eta: kl_to_equal(top_weights(advantage, jnp.exp(jnp.asarray(log_eta, jnp.float32)), 0.5))
    eta = np.exp(brentq(lambda log_eta: kl(log_eta) - epsilon, -4, 4))
    agent = replace(
        rows.start("vmpo"),
        temperature=fixed(KLConstraint(jnp.asarray(np.log(eta), jnp.float32), epsilon)),
        likelihood=fixed(Told(advantage)),
    )
    _, draws, _, info = BatchWeights()(agent, rows.batch(size=64), make_key(0))
    mine = (draws.weight * draws.log_ratio).sum(-1)
    np.testing.assert_allclose(mine.mean(), epsilon, rtol=1e-3)
    np.testing.assert_allclose(draws.weight.mean(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(info["e/kept"], 0.5)
    gradient = jax.grad(lambda one: one.loss(mine)[0])(agent.temperature.model).log_alpha
    assert abs(gradient) < 1e-3 * eta
    # the gradient is that of the paper's dual, η ε + η log mean exp(A/η) over the kept half
    kept = jnp.sort(advantage)[32:]
    dual = lambda log_eta: jnp.exp(log_eta) * (0.05 + jax.nn.logsumexp(kept / jnp.exp(log_eta)) - jnp.log(32.0))
    ours = KLConstraint(jnp.asarray(np.log(eta), jnp.float32), 0.05)
    gradient = jax.grad(lambda one: one.loss(mine)[0])(ours).log_alpha
    np.testing.assert_allclose(gradient, jax.grad(dual)(ours.log_alpha), rtol=1e-4)


class Told(StateValue):
    """Advantages that are given."""

    given: jax.Array

    def __init__(self, given):
        self.given = given
        self.net, self.gamma, self.gae_lambda = None, 0.9, 0.9

    def advantages(self, batch, bootstrap, key):
        return self.given.reshape(batch.reward.shape)


class Logits(Inference):
    """Direct inference by a table."""

    table: jax.Array

    def __call__(self, problem, posterior, key):
        return Inferred(problem.obs @ self.table, jnp.zeros(()), jnp.zeros(0))


def test_soft_q_learning_is_the_policy_gradient():
    """Schulman et al. 2017: in the mean over a ~ π, with the sampling distribution held fixed,
    ∇L_Q = α ∇L_PG + ∇L_V, for every parameter of policy and value."""
    states, choices, alpha = 4, 5, 0.3
    rng = np.random.default_rng(3)
    with jax.enable_x64(True):
        wide = lambda *shape: jnp.asarray(rng.standard_normal(shape))
        logits, v, reference, returns = (
            wide(states, choices),
            wide(states),
            wide(states, choices),
            wide(states, choices),
        )
        held = jax.nn.softmax(logits)  # who draws the actions
        p = jax.nn.log_softmax(reference)

        def pairs(theta, pointwise):
            """The mean loss over states and actions, the advantage being a number."""
            log_q = jax.nn.log_softmax(theta)
            kl = (jnp.exp(log_q) * (log_q - p)).sum(-1, keepdims=True) + jnp.zeros((states, choices))
            advantage = returns - v[:, None]
            every = jax.vmap(jax.vmap(lambda *x: pointwise(*x, alpha)))(log_q, log_q - p, kl, advantage)
            return (held * every).sum(-1).mean()

        def q_loss(theta, v):
            """½ (Q - R)² with Q = V + α log q/p."""
            q = v[:, None] + alpha * (jax.nn.log_softmax(theta) - p)
            return (held * 0.5 * jnp.square(q - returns)).sum(-1).mean()

        def v_loss(v):
            """½ (V - (R - α KL))²."""
            log_q = jax.nn.log_softmax(logits)
            kl = (jnp.exp(log_q) * (log_q - p)).sum(-1, keepdims=True)
            return (held * 0.5 * jnp.square(v[:, None] - (returns - alpha * kl))).sum(-1).mean()

        d_theta, d_v = jax.grad(q_loss, argnums=(0, 1))(logits, v)
        d_pg = jax.grad(pairs)(logits, policy_gradient)
        np.testing.assert_allclose(d_theta, alpha * d_pg, atol=1e-12)
        np.testing.assert_allclose(jax.grad(pairs)(logits, soft_q_learning), d_theta, atol=1e-12)
        np.testing.assert_allclose(d_v, jax.grad(v_loss)(v), atol=1e-12)
        assert np.abs(d_theta).max() > 1e-2
        assert np.abs(d_v).max() > 1e-2


@pytest.mark.parametrize("pointwise", [policy_gradient, soft_q_learning])
def test_the_e_step_is_the_pointwise_loss_of_the_actions_taken(pointwise):
    """Over discrete actions, where the KL is exact, against the formula written out; nothing reaches the critic."""
    spec, alpha = Spec(3, 4, OneHot()), 0.2
    agent = SoftPG(hidden_sizes=(8,), alpha=alpha).init(spec, make_key(0))
    table = jax.random.normal(make_key(1), (3, 4))
    advantage = jax.random.normal(make_key(2), (6,))
    agent = replace(agent, inference=replace(fixed(Logits(table)), target=None), likelihood=fixed(Told(advantage)))
    obs = jax.random.normal(make_key(3), (6, 1, 3))
    action = jax.nn.one_hot(jnp.asarray([0, 3, 1, 2, 2, 0]), 4)[:, None]
    nought = jnp.zeros((6, 1))
    batch = Transition(obs, action, nought, nought, obs, nought)
    climbed, draws, _, _ = ScoreFunction(pointwise)(agent, batch, make_key(4))

    def written_out(table):
        log_q = jax.nn.log_softmax(obs[:, 0] @ table)
        taken, kl = (log_q * action[:, 0]).sum(-1), (jnp.exp(log_q) * (log_q + jnp.log(4.0))).sum(-1)
        if pointwise is policy_gradient:
            return (-taken * advantage + alpha * kl).mean()
        return 0.5 * jnp.square(alpha * (taken + jnp.log(4.0)) - advantage).mean()

    wanted = jax.grad(written_out)(table)
    np.testing.assert_allclose(climbed.inference.pending.gradient.reshape(3, 4), wanted, rtol=1e-4, atol=1e-6)
    assert climbed.likelihood.pending is None
    assert draws.weight.shape == (6, 4)


@pytest.mark.long
def test_values_are_fitted_to_returns_less_the_penalty_of_the_state():
    critic = state_value(Spec(3, 2), (8,), 0.9, 0.7, key=make_key(0))
    batch = rows.batch(size=4)
    batch = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[::-1], leaf], axis=1), batch)  # T = 3
    kappa = 0.3
    constant = lambda value: lambda step, key: jnp.asarray(value)
    boot = Bootstrap(constant(0.0), constant(kappa), constant(0.0), constant(0.0))
    free = boot._replace(penalty=constant(0.0))
    charged, plain = (critic.advantages(batch, b, make_key(1)) for b in (boot, free))
    v, after = critic.values(batch.obs), critic.values(batch.next_obs)
    np.testing.assert_allclose(v[2, 1], critic.net(batch.obs[2, 1])[0], rtol=1e-6)
    delta = batch.reward + 0.9 * batch.discount * after - v
    wanted = np.zeros(4)
    for t in (2, 1, 0):
        go = 0.9 * 0.7 * (1 - batch.last[:, t])
        wanted = np.asarray(delta[:, t]) + go * (wanted - (kappa if t < 2 else 0.0))
        np.testing.assert_allclose(charged[:, t], wanted, rtol=1e-4, atol=1e-5)
    loss, _ = critic.loss(batch, boot, make_key(1))
    np.testing.assert_allclose(loss, 0.5 * jnp.square(charged - kappa).mean(), rtol=1e-5)
    assert np.abs(charged - plain).max() > 0.1


@pytest.mark.long
def test_a_rollout_is_learned_from_as_often_as_there_are_epochs():
    row = VMPO(hidden_sizes=(8,), unroll=4, rollout=32, epochs=3)
    env = make("Pendulum-v1", num_envs=2)
    trainer = Trainer(row, env, RunConfig(steps=100, num_envs=2, batch_size=16, warmup_steps=50), lambda text: None)
    trainer.begin()
    while trainer.counts.env_steps < 32:
        trainer.step()
    assert trainer.block == trainer.due == 6  # two batches of four sequences of four, three times
    drawn = trainer.rows()
    assert drawn.shape == (6, 4, 4)
    times, count = np.unique(drawn, return_counts=True)
    assert len(times) == 32
    assert (count == 3).all()
    assert (drawn[:2] != drawn[2:4]).any()  # another order
    trainer.update_block()
    assert (trainer.counts.updates, trainer.due) == (6, 0)
    while trainer.counts.env_steps < 64:
        trainer.step()
    assert trainer.due == 6
    assert not set(times) & set(np.unique(trainer.rows()))  # nothing is learned from again
    env.close()


@pytest.mark.long
def test_repeated_steps_on_a_bandit_find_the_best_arm_within_the_bound():
    """V-MPO on three arms with their true advantages: the KL of one policy to the next stays near its bound."""
    spec = Spec(1, 3, OneHot())
    agent = VMPO(
        hidden_sizes=(8,), target_period=40, learning_rate=3e-3, epsilon_mean=0.02, dual_learning_rate=0.05
    ).init(spec, make_key(0))
    worth = jnp.asarray([0.0, 1.0, 0.3])
    obs, nought = jnp.ones((96, 1, 1)), jnp.zeros((96, 1))

    def update(agent, key):
        k_draw, k_step = jax.random.split(key)
        policy = agent.prior.slow(obs[0, 0])
        action = jax.vmap(policy.sample)(jax.random.split(k_draw, 96))[:, None]
        bootstrap = action[:, 0] @ worth
        told = replace(agent, likelihood=fixed(Told(bootstrap - bootstrap.mean())))
        stepped, draws, _, _ = told.e_step(told, Transition(obs, action, nought, nought, obs, nought), k_step)
        new = em.m_step(stepped, draws, Transition(obs[:, 0], action[:, 0], *([nought[:, 0]] * 4)))[0]
        new = apply_pending(replace(new, likelihood=agent.likelihood))[0]
        kl = categorical_kl(agent.prior.slow(obs[0, 0]), new.prior.model(obs[0, 0]))
        return new, kl

    run = rows.compiled(lambda agent, keys: jax.lax.scan(update, agent, keys))
    agent, kl = run(agent, jax.random.split(make_key(1), 4000))
    probabilities = jnp.exp(Categorical(agent.prior.slow(obs[0, 0]).logits).log_probs)
    assert probabilities[1] > 0.95
    assert kl[400:].mean() < 1.1 * 0.02


def test_the_sampled_penalty_is_the_kl_in_the_mean():
    agent = SoftPG(hidden_sizes=(8,), samples=64).init(Spec(3, 4, OneHot()), make_key(0))
    step = jax.tree.map(lambda leaf: leaf[0, 0], rows.batch(spec=Spec(3, 4)))
    sampled, exact = sampled_posterior_value(agent), posterior_value(agent)
    q = agent.behave(agent, step.obs, make_key(1))
    each = [sampled.penalty(step._replace(action=action), make_key(1)) for action in jnp.eye(4)]
    np.testing.assert_allclose(jnp.exp(q.log_probs) @ jnp.stack(each), exact.penalty(step, make_key(1)), atol=1e-6)
