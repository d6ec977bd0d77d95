"""Soft LQR (O3) by the rows that learn a sampler or on-policy: gains and values against the closed forms."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.algorithms import SQL, VMPO, SoftPG
from estep.core import acting, em
from estep.core.acting import act_with_memo
from estep.core.keys import make_key
from estep.core.learned import fixed
from estep.core.slots import Prior
from estep.core.types import Identity, Spec, Transition
from estep.families.gaussian import Normal
from oracles import lqr

SPREAD = 1.2
"""Standard deviation of the start states."""
REACH = 3.5
"""Actions of the box are [-1, 1] times this: ten standard deviations of the best policy across."""
PROBES = 64


def advance(x, s, u, key):
    """Reward and successor of states [n, 2] under actions [n, 2]."""
    a, b, q, r = (jnp.asarray(m, jnp.float32) for m in (x.a, x.b, x.q, x.r))
    reward = -0.5 * ((s @ q * s).sum(-1) + (u @ r * u).sum(-1))
    noise = jnp.sqrt(jnp.asarray(x.w[0, 0], jnp.float32)) * jax.random.normal(key, s.shape)
    return reward, s @ a.T + u @ b.T + noise


def starts(key, n):
    return SPREAD * jax.random.normal(key, (n, 2))


def anywhere(x, agent, key):
    """A batch off policy: fresh states, and actions all over the box."""
    k_s, k_u, k_w = jax.random.split(key, 3)
    s = starts(k_s, 128)
    u = -0.3 * s / REACH + 0.5 * jax.random.normal(k_u, (128, 2))
    reward, after = advance(x, s, REACH * jnp.tanh(u), k_w)
    step = Transition(s, u, reward, jnp.ones(128), after, jnp.zeros(128))
    return jax.tree.map(lambda leaf: leaf[:, None], step)


def unrolled(x, agent, key, envs=64, steps=8):
    """Unrolls [envs, steps] of the agent's own behaviour, each from a start state and cut by a time limit."""
    k_start, k_steps = jax.random.split(key)

    def step(s, keys):
        u, action, memo = act_with_memo(agent, s, keys[0])
        reward, after = advance(x, s, action, keys[1])
        return after, Transition(s, u, reward, jnp.ones(envs), after, jnp.zeros(envs), memo)

    _, taken = jax.lax.scan(step, starts(k_start, envs), jax.random.split(k_steps, (steps, 2)))
    taken = taken._replace(last=taken.last.at[-1].set(1.0))
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), taken)


def regulate(agent, collect, updates, keep, reach=1.0, epochs=1):
    """Train on what `collect` gives; K and Σ of the actions that the agent takes, over its last updates."""
    probe = starts(make_key(5), PROBES)

    def step(agent, key):
        k_collect, k_update, k_act = jax.random.split(key, 3)
        batch = collect(agent, k_collect)
        passes = jax.random.split(k_update, epochs)
        agent, _ = jax.lax.scan(lambda agent, key: (em.update(agent, batch, key)[0], None), agent, passes)
        u = reach * acting.act(agent, probe, k_act)[1]
        return agent, (probe.T @ u, u.T @ u)

    run = jax.jit(lambda agent, keys: jax.lax.scan(step, agent, keys)[1])
    su, uu = (np.asarray(m[-keep:], np.float64).mean(0) for m in run(agent, jax.random.split(make_key(1), updates)))
    ss = np.asarray(probe.T @ probe, np.float64)
    gain = np.linalg.solve(ss, su).T
    return gain, (uu - gain @ ss @ gain.T) / PROBES


def value_at_starts(p, c):
    return -0.5 * SPREAD**2 * np.trace(p) + c


def judge(x, gain, sigma, worst):
    """Relative error of the gain, and how far the value falls short, as a part of what there is to gain on `worst`."""
    best_gain, _, p, c = lqr.optimum(x)
    best, ours = value_at_starts(p, c), value_at_starts(*lqr.value(x, gain, sigma))
    assert np.abs(np.linalg.eigvals(x.a + x.b @ gain)).max() < 1.0
    return np.abs(gain - best_gain).max() / np.abs(best_gain).max(), (best - ours) / abs(best - worst)


@pytest.mark.long
def test_sql_solves_soft_lqr():
    """On a box so wide that its walls do not matter, where a uniform prior is a Improper one, up to a constant."""
    x = lqr.problem()
    row = SQL(
        hidden_sizes=(64, 64),
        learning_rate=2e-3,
        gamma=x.gamma,
        alpha=x.alpha,
        target_period=1,
        tau=0.05,
        proposal="sampler",
    )
    agent = row.init(Spec(2, 2), make_key(0))
    gain, sigma = regulate(agent, partial(anywhere, x), 2600, 600, reach=REACH)
    box = REACH**2 / 3 * np.eye(2)
    uniform = 2 * np.log(2 * REACH) - 0.5 * np.linalg.slogdet(2 * np.pi * np.e * box)[1]
    p, c = lqr.value(x, np.zeros((2, 2)), box)  # of the Gaussian of that spread, whose entropy is another
    off, short = judge(x, gain, sigma, value_at_starts(p, c + x.alpha * uniform / (1 - x.gamma)))
    assert off < 0.10
    assert 0 < short < 0.05


@pytest.mark.long
def test_vmpo_solves_lqr():
    """By the plain return, whose best gain is that of any spread: the greedy action is judged."""
    x = lqr.problem()._replace(alpha=1e-9)
    row = VMPO(
        hidden_sizes=(64, 64),
        learning_rate=1e-3,
        gamma=x.gamma,
        target_period=20,
        unroll=8,
        epsilon_mean=2e-2,
        epsilon_scale=1e-5,
    )
    agent = row.init(Spec(2, 2, Identity()), make_key(0))
    gain, _ = regulate(agent, partial(unrolled, x, envs=128), 2000, 500, epochs=4)
    fresh = lqr.value(x, np.zeros((2, 2)), row.sigma**2 * np.eye(2))
    off, short = judge(x, gain, 1e-9 * np.eye(2), value_at_starts(*fresh))
    assert off < 0.10
    assert 0 < short < 0.05


class Reference(Prior):
    """N(K s, diag σ²), for ever."""

    gain: jax.Array
    log_sigma: jax.Array

    def __call__(self, obs):
        return Normal(self.gain @ obs, self.log_sigma)


@pytest.mark.long
@pytest.mark.parametrize("form", ["policy-gradient", "soft-q"])
def test_soft_pg_solves_soft_lqr(form):
    """Under a fixed reference policy that knows a little."""
    x = lqr.problem(prior=True)
    row = SoftPG(
        hidden_sizes=(64, 64), learning_rate=1e-3, gamma=x.gamma, alpha=x.alpha, unroll=8, samples=2, loss=form
    )
    gain, sigma = (jnp.asarray(m, jnp.float32) for m in x.prior)
    reference = fixed(Reference(gain, 0.5 * jnp.log(jnp.diag(sigma))))
    agent = replace(row.init(Spec(2, 2), make_key(0)), prior=reference, spec=Spec(2, 2, Identity()))
    gain, sigma = regulate(agent, partial(unrolled, x), 3000, 750)
    off, short = judge(x, gain, sigma, value_at_starts(*lqr.value(x, *x.prior)))
    assert off < 0.10
    assert 0 < short < 0.05
