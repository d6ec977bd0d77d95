"""What a critic is regressed on: several steps of replay, through the slots."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.algorithms import MPO
from estep.core.acting import act_with_memo
from estep.core.batch import flatten
from estep.core.keys import make_key
from estep.core.types import Spec, Transition
from estep.envs.gymnasium import make
from estep.errors import UsageError
from estep.likelihoods.returns import Segment, n_step, retrace, trace_coefficient
from estep.likelihoods.targets import NStep, Retrace, td0, vmap_steps
from estep.policy.actor import memo_widths
from estep.settings.run import RunConfig
from estep.training.trainer import Trainer
from oracles import rows

GAMMA, B, T = 0.9, 6, 5
ROW = MPO(hidden_sizes=(8,), samples=3, unroll=T, gamma=GAMMA)


@pytest.fixture(scope="module")
def agent():
    return rows.compiled(lambda key: ROW.init(Spec(3, 2), key))(make_key(0))


@pytest.fixture(scope="module")
def batch(agent):
    """Sequences whose actions the slow prior drew, two thirds of whose steps do not end an episode."""
    k = jax.random.split(make_key(1), 5)
    obs, next_obs = (jax.random.normal(key, (B, T, 3)) for key in k[:2])
    u, _, memo = act_with_memo(agent, obs.reshape(-1, 3), k[2])
    last = (jax.random.uniform(k[3], (B, T)) < 0.3).astype(jnp.float32)
    discount = 1.0 - last * jnp.asarray([[0.0], [1.0]] * (B // 2))
    memo = jax.tree.map(lambda leaf: leaf.reshape(B, T, -1), memo)
    return Transition(obs, u.reshape(B, T, 2), jax.random.normal(k[4], (B, T)), discount, next_obs, last, memo)


def target(kind, agent, batch, key=2):
    return rows.compiled(lambda a, b, k: kind(b, a.bootstrap(a), k, GAMMA))(agent, batch, make_key(key))


@pytest.mark.long
def test_on_its_own_data_retrace_is_corrected_for_nothing(agent, batch):
    """Ratios are one: then it is the recursion with c = λ."""
    boot, keys = agent.bootstrap(agent), jax.random.split(make_key(2), 3)
    value, q = vmap_steps(boot.value, batch, keys[0]), vmap_steps(boot.q, batch, keys[1])
    segment = Segment(batch.reward, batch.discount, batch.last)
    wanted = jax.vmap(lambda s, v, q: retrace(s, v, q, jnp.full(T, 0.8), GAMMA))(segment, value, q)
    np.testing.assert_allclose(target(Retrace(0.8), agent, batch), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_ratios_cut_what_the_policy_would_not_have_done(agent, batch):
    elsewhere = batch._replace(memo={"log_prob": batch.memo["log_prob"] + 2.0})
    boot, keys = agent.bootstrap(agent), jax.random.split(make_key(2), 3)
    value, q = vmap_steps(boot.value, batch, keys[0]), vmap_steps(boot.q, batch, keys[1])
    segment = Segment(batch.reward, batch.discount, batch.last)
    trace = trace_coefficient(jnp.full((B, T), -2.0), 1.0)
    np.testing.assert_allclose(trace, np.exp(-2.0), rtol=1e-6)
    wanted = jax.vmap(lambda s, v, q, c: retrace(s, v, q, c, GAMMA))(segment, value, q, trace)
    np.testing.assert_allclose(target(Retrace(1.0), agent, elsewhere), wanted, rtol=1e-4, atol=1e-4)
    one_step = target(Retrace(0.0), agent, batch)
    key = jax.random.split(make_key(2), 3)[0]
    alone = rows.compiled(lambda a, b, k: td0(b, a.bootstrap(a), k, GAMMA))(agent, batch, key)
    np.testing.assert_allclose(one_step, alone, rtol=1e-4, atol=1e-4)


def test_n_step_targets_are_the_returns(agent, batch):
    boot, keys = agent.bootstrap(agent), jax.random.split(make_key(2))
    value, nothing = vmap_steps(boot.value, batch, keys[0]), jnp.zeros(T)
    segment = Segment(batch.reward, batch.discount, batch.last)
    wanted = jax.vmap(lambda s, v: n_step(s, v, nothing, GAMMA, 3))(segment, value)
    np.testing.assert_allclose(target(NStep(3), agent, batch), wanted, rtol=1e-4, atol=1e-4)


def test_the_critic_learns_from_its_target_alone(agent, batch):
    """Its loss is ½ (Q - y)² with y a number: nothing is differentiated through the target."""
    y = target(agent.likelihood.model.target, agent, batch, key=3)
    critic = agent.likelihood.model

    def plain(critic):
        values = jax.vmap(critic.values)(flatten(batch).obs, flatten(batch).action)
        return 0.5 * jnp.square(values - y.reshape(-1, 1)).mean(0).sum()

    ours = rows.compiled(jax.grad(lambda c: c.loss(batch, agent.bootstrap(agent), make_key(3))[0]))(critic)
    theirs = rows.compiled(jax.grad(plain))(critic)
    jax.tree.map(lambda x, w: np.testing.assert_allclose(x, w, rtol=1e-3, atol=1e-5), ours, theirs)


@pytest.mark.long
def test_replay_remembers_the_density_that_drew_each_action():
    row = replace(ROW, hidden_sizes=(8,), target_period=1)
    env = make("Pendulum-v1")
    trainer = Trainer(
        row,
        env,
        RunConfig(steps=90, warmup_steps=30, replay_size=90, batch_size=20, updates_per_call=2),
        lambda text: None,
    )
    assert memo_widths(trainer.agent) == {"log_prob": 1}
    trainer.begin()
    while trainer.counts.env_steps < 60:
        trainer.advance()
    stored = trainer.replay.read(trainer.replay.newest(60, 60))
    np.testing.assert_allclose(stored.memo["log_prob"][0, :30, 0], -np.log(2.0), rtol=1e-6)  # uniform on [-1, 1]
    assert np.ptp(stored.memo["log_prob"][0, 30:]) > 0
    assert trainer.rows().shape == (2, 4, 5)
    before = trainer.agent.prior.slow
    trainer.step()
    newest = trainer.replay.read(trainer.replay.newest(1, 1))
    wanted = before(newest.obs[0, 0]).log_prob(newest.action[0, 0])
    np.testing.assert_allclose(newest.memo["log_prob"][0, 0, 0], wanted, rtol=1e-5)
    env.close()


def test_particles_have_no_density_to_remember():
    with pytest.raises(UsageError, match="Retrace needs the density"):
        MPO(act_with="posterior")
    assert MPO(act_with="posterior", target="n-step").target == "n-step"
