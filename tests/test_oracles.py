"""Inference and learning against closed forms: quadrature (O1), soft LQR (O3), the conjugate bandit (O4), rings."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from estep.algorithms.iterative_sac import IterativeSAC
from estep.algorithms.sac import SAC
from estep.core import em
from estep.core.batch import flatten
from estep.core.em import apply_pending
from estep.core.keys import make_key
from estep.core.learned import fixed, learn
from estep.core.objective import soft_value
from estep.core.optim import adam
from estep.core.slots import Likelihood, Problem
from estep.core.types import Identity, Spec, Tanh, Transition
from estep.e_steps.climb import climb
from estep.families.gaussian import Normal
from estep.families.uniform import Improper, UniformSquashed
from estep.m_steps.temperature import Constant
from estep.priors.flat import Flat
from estep.priors.gaussian import FixedGaussian
from estep.priors.uniform import Uniform
from oracles import lqr, quadrature, rows

ALPHA = 0.5


def curve(s, a, xp):
    """A skew Q in one dimension, whose optimum depends on the state."""
    return -2.0 * (a - 0.5 * s) ** 2 + 0.4 * xp.sin(3.0 * a)


class Curve(Likelihood):
    """`curve` as the critic."""

    def __call__(self, problem, action, key):
        return curve(problem.obs[0], jnp.tanh(action[0]), jnp)

    def loss(self, batch, bootstrap, key):
        return jnp.zeros(()), {}


def at_temperature(agent, alpha):
    return replace(agent, temperature=fixed(Constant(jnp.asarray(alpha))))


def states(obs, action=1):
    """A batch that is only its observations, [B, 1, o]."""
    nought = jnp.zeros(obs.shape[:2])
    return Transition(obs, jnp.zeros((*obs.shape[:2], action)), nought, nought, obs, nought)


@pytest.mark.parametrize(("mu", "log_sigma"), [(0.0, -1.0), (0.8, -1.5), (-1.0, -0.7)])
@pytest.mark.parametrize("prior", ["flat", "uniform"])
def test_the_objective_is_the_evidence_less_the_divergence(mu, log_sigma, prior):
    log_prior = {"flat": 0.0, "uniform": -np.log(2)}[prior]
    q = lambda a: curve(0.6, a, np)
    with jax.enable_x64(True):  # J with the library's densities, everything else by quadrature over the box
        x, w = quadrature.HERMITE
        ours = Normal(jnp.asarray([mu]), jnp.asarray([log_sigma]))
        p = Improper(Tanh(), 1) if prior == "flat" else UniformSquashed(1)
        u = jnp.asarray(mu + np.exp(log_sigma) * x)[:, None]
        log_ratio = jax.vmap(lambda u: ours.log_prob(u) - p.log_prob(u))(u)
        assert log_ratio.dtype == np.float64
        j = w @ (q(np.tanh(np.asarray(u[:, 0]))) - ALPHA * np.asarray(log_ratio)) / np.sqrt(2 * np.pi)
    identity = quadrature.log_z(q, ALPHA, log_prior) - ALPHA * quadrature.divergence(q, ALPHA, mu, log_sigma, log_prior)
    assert abs(j - identity) < 1e-6
    assert abs(j - quadrature.objective(q, ALPHA, mu, log_sigma, log_prior)) < 1e-7


def quantiles(key, n, a):
    """Noise without chance: the quantiles of the standard normal."""
    return jnp.asarray(norm.ppf((np.arange(n) + 0.5) / n), jnp.float32)[:, None]


def test_soft_value_is_the_objective():
    q = Normal(jnp.asarray([0.4]), jnp.asarray([-0.8]), quantiles)
    for prior, log_prior in ((Flat(Spec(1, 1)), 0.0), (Uniform(Spec(1, 1)), -np.log(2))):
        problem = Problem(jnp.asarray([0.6]), prior, Curve(), jnp.asarray(ALPHA))
        value, draws = soft_value(q, problem, make_key(0), 20_000)
        true = quadrature.objective(lambda a: curve(0.6, a, np), ALPHA, 0.4, -0.8, log_prior)
        np.testing.assert_allclose(value, true, atol=1e-3)
        np.testing.assert_allclose(draws.weight.sum(), 1.0, rtol=1e-4)


@pytest.mark.long
def test_direct_inference_reaches_the_best_of_its_family():
    agent = SAC(hidden_sizes=(32, 32), learning_rate=3e-3).init(Spec(1, 1), make_key(0))
    agent = at_temperature(replace(agent, likelihood=fixed(Curve()), samples=4), ALPHA)

    def step(agent, key):
        k_obs, k = jax.random.split(key)
        obs = jax.random.uniform(k_obs, (128, 1, 1), minval=-1.2, maxval=1.2)
        return apply_pending(climb(agent, flatten(states(obs)), k)[0])[0], None

    agent = jax.jit(lambda agent: jax.lax.scan(step, agent, jax.random.split(make_key(1), 1500))[0])(agent)
    grid = np.linspace(-1, 1, 9)
    infer = lambda s: agent.infer(agent.inference.model, Curve(), s[None], make_key(2))[2].lam
    lams = np.asarray(jax.vmap(infer)(jnp.asarray(grid, jnp.float32)), np.float64)
    learned, best = [], []
    for s, (mu, log_sigma) in zip(grid, lams, strict=True):
        q = lambda a, s=s: curve(s, a, np)
        learned.append(quadrature.divergence(q, ALPHA, mu, log_sigma))
        best.append((quadrature.log_z(q, ALPHA) - quadrature.best(q, ALPHA)[0]) / ALPHA)
    assert np.mean(best) > 1e-4  # the family does not hold the posterior
    assert -1e-6 < np.mean(learned) - np.mean(best) < 1e-2


def test_the_closed_forms_of_soft_lqr_agree():
    for prior in (False, True):
        x = lqr.problem(prior)
        gain, sigma, p, c = lqr.optimum(x)
        p_same, c_same = lqr.value(x, gain, sigma)
        np.testing.assert_allclose(p_same, p, rtol=1e-9)
        np.testing.assert_allclose(c_same, c, rtol=1e-9)
        worse = [lqr.value(x, gain * 1.1, sigma)[1], lqr.value(x, gain, sigma * 1.2)[1]]
        assert max(worse) < c


def regulate(row, updates, keep):
    """Train a row on soft LQR with fresh states and actions; K and Σ averaged over the last updates."""
    x = lqr.problem()
    agent = at_temperature(row.init(Spec(2, 2, Identity()), make_key(0)), x.alpha)
    a, b, q, r = (jnp.asarray(m, jnp.float32) for m in (x.a, x.b, x.q, x.r))
    probe = jax.random.normal(make_key(5), (64, 2))

    def step(agent, key):
        k_s, k_u, k_w, k = jax.random.split(key, 4)
        s = 1.2 * jax.random.normal(k_s, (256, 2))
        u = -0.3 * s + 1.0 * jax.random.normal(k_u, (256, 2))
        reward = -0.5 * ((s @ q * s).sum(-1) + (u @ r * u).sum(-1))
        after = s @ a.T + u @ b.T + jnp.sqrt(jnp.asarray(x.w[0, 0], jnp.float32)) * jax.random.normal(k_w, s.shape)
        batch = Transition(s, u, reward, jnp.ones(256), after, jnp.zeros(256))
        agent, _ = em.update(agent, jax.tree.map(lambda leaf: leaf[:, None], batch), k)
        acting = agent.acting(agent.inference.model)
        infer = lambda s, k: agent.infer(acting, agent.likelihood.model, s, k)[2].lam
        lam = jax.vmap(infer)(probe, jax.random.split(k, 64))
        moments = probe.T @ probe, probe.T @ lam[:, :2], jnp.exp(2 * lam[:, 2:]).mean(0)
        return agent, moments

    keys = jax.random.split(make_key(1), updates)
    _, (ss, su, var) = jax.jit(lambda agent, keys: jax.lax.scan(step, agent, keys))(agent, keys)
    gain = np.linalg.solve(np.asarray(ss[-1], np.float64), np.asarray(su[-keep:], np.float64).mean(0)).T
    best_gain, best_sigma, _, _ = lqr.optimum(x)
    off = np.abs(best_sigma - np.diag(np.diag(best_sigma))).max()
    assert off < 0.15 * best_sigma.min(initial=9, where=np.eye(2, dtype=bool))
    # a diagonal family fits the diagonal of the precision
    family = 1 / np.diag(np.linalg.inv(best_sigma))
    spread = np.asarray(var[-keep:]).mean(0)
    return np.abs(gain - best_gain).max() / np.abs(best_gain).max(), np.abs(spread / family - 1).max()


@pytest.mark.long
def test_sac_solves_soft_lqr():
    row = SAC(hidden_sizes=(64, 64), learning_rate=1e-3, gamma=0.8, tau=0.02, num_critics=1, beta=0.0)
    gain, sigma = regulate(row, 6000, 2000)
    assert gain < 0.05
    assert sigma < 0.05


@pytest.mark.long
def test_iterative_sac_solves_soft_lqr():
    sizes = {"hidden_sizes": (64, 64), "learning_rate": 1e-3, "tau": 0.02, "iterations": 3, "act_samples": 2}
    row = IterativeSAC(gamma=0.8, num_critics=1, beta=0.0, **sizes, **rows.AFRESH)
    gain, sigma = regulate(row, 4000, 1000)
    assert gain < 0.10
    assert sigma < 0.10


class Quadratic(Likelihood):
    """Q = -Σ (a - b)²/2c."""

    b: jax.Array
    c: jax.Array

    def __call__(self, problem, action, key):
        return -(jnp.square(action - self.b) / (2 * self.c)).sum()

    def loss(self, batch, bootstrap, key):
        return jnp.zeros(()), {}


def signs(key, n, a):
    """Two points with the mean and the variance of the standard normal."""
    return jnp.stack([jnp.ones(a), -jnp.ones(a)])


def test_the_conjugate_bandit():
    m, v, b, c = (np.array(x) for x in ([0.3, -0.5], [0.7, 1.5], [1.0, -2.0], [0.4, 2.0]))
    as32 = lambda x: jnp.asarray(x, jnp.float32)
    problem = Problem(jnp.zeros(1), FixedGaussian(as32(m), as32(np.sqrt(v))), Quadratic(as32(b), as32(c)), as32(ALPHA))
    objective = lambda mu, ls: soft_value(Normal(mu, ls, signs), problem, make_key(0), 2)[0]
    both = jax.jit(jax.value_and_grad(objective, argnums=(0, 1)))
    mu, ls = np.array([0.1, 0.9]), np.array([-0.4, 0.3])
    _, (g_mu, g_ls) = both(as32(mu), as32(ls))
    np.testing.assert_allclose(g_mu, -(mu - b) / c - ALPHA * (mu - m) / v, rtol=1e-5)
    np.testing.assert_allclose(g_ls, -np.exp(2 * ls) / c + ALPHA * (1 - np.exp(2 * ls) / v), rtol=1e-5)
    precision = 1 / v + 1 / (ALPHA * c)
    mean = (m / v + b / (ALPHA * c)) / precision
    evidence = (-0.5 * ALPHA * np.log1p(v / (ALPHA * c)) - (m - b) ** 2 / (2 * (c + v / ALPHA))).sum()
    value, grads = both(as32(mean), as32(-0.5 * np.log(precision)))
    np.testing.assert_allclose(value, evidence, rtol=1e-5)
    assert max(np.abs(g).max() for g in grads) < 1e-5


def still(obs, gamma, members=1):
    """A row whose policy is N(0.2, e^-1), the same in every state and frozen, and whose critic has no lag."""
    row = SAC(hidden_sizes=(32,), gamma=gamma, num_critics=members, beta=0.0)
    agent = row.init(Spec(obs, 1), make_key(0))
    net = agent.inference.model.net
    bias = jnp.asarray([0.2, -1.0])
    net = replace(net, rest=tuple(jnp.zeros_like(w) for w in net.rest), biases=(*net.biases[:-1], bias))
    frozen = fixed(replace(agent.inference.model, net=net))
    critic = learn(agent.likelihood.model, adam(3e-3), tau=0.1)
    return replace(agent, inference=frozen, likelihood=critic)


def fit(agent, batch, steps):
    """The critic after many updates on the batch, at actions of the policy."""

    def step(agent, key):
        k_a, k = jax.random.split(key)
        infer = lambda s, key: agent.infer(agent.inference.model, agent.likelihood.model, s, key)[0].sample(key)
        u = jax.vmap(infer)(batch.obs[:, 0], jax.random.split(k_a, batch.obs.shape[0]))
        agent, _ = apply_pending(em.critic_step(agent, batch._replace(action=u[:, None]), k)[0])
        q = jax.vmap(lambda s, u: agent.likelihood.model.values(s, u)[0])(batch.obs[:, 0], u)
        return agent, q

    return jax.lax.scan(step, agent, jax.random.split(make_key(3), steps))[1][-200:].mean(0)


def test_the_kl_of_a_step_is_in_the_value_of_the_next():
    gamma, alpha, mu, log_sigma = 0.5, 0.3, 0.2, -1.0 + np.log1p(np.exp(-9.0))
    prior = FixedGaussian(jnp.asarray([0.5]), jnp.asarray([1.2]))
    agent = at_temperature(replace(still(1, gamma), prior=fixed(prior)), alpha)
    bounded = np.asarray(agent.infer(agent.inference.model, Curve(), jnp.ones(1), make_key(0))[2].lam, np.float64)
    mu, log_sigma = bounded
    k0 = np.log(1.2) - log_sigma + (np.exp(2 * log_sigma) + (mu - 0.5) ** 2) / (2 * 1.2**2) - 0.5
    one = jnp.ones((16, 1))
    q = jax.jit(fit, static_argnums=2)(agent, states(jnp.ones((16, 1, 1)))._replace(reward=one, discount=one), 1500)
    np.testing.assert_allclose(q, (1 - gamma * alpha * k0) / (1 - gamma), atol=0.02)
    assert alpha * k0 > 0.1  # a KL in the wrong step would be seen


@pytest.mark.long
@pytest.mark.parametrize("ended", ["terminated", "truncated"])
def test_a_ring_ends_where_it_terminates_and_not_where_time_runs_out(ended):
    n, gamma = 10, 0.8
    obs = jnp.eye(n)[:, None]
    flag = jnp.zeros((n, 1)).at[-1].set(1.0)
    batch = states(obs)._replace(reward=jnp.ones((n, 1)), next_obs=jnp.roll(obs, -1, 0), last=flag)
    batch = batch._replace(discount=1.0 - flag if ended == "terminated" else jnp.ones((n, 1)))
    q = jax.jit(fit, static_argnums=2)(at_temperature(still(n, gamma), 0.0), batch, 3000)
    open_end = [sum(gamma**k for k in range(n - i)) for i in range(n)]
    true = np.array(open_end) if ended == "terminated" else np.full(n, 1 / (1 - gamma))
    np.testing.assert_allclose(q, true, rtol=0.02)


@pytest.mark.long
def test_uniform_for_flat_shifts_the_values_by_known_constants():
    spec, alpha, gamma = Spec(3, 2), 0.3, 0.9
    flat = at_temperature(SAC(hidden_sizes=(16,), gamma=gamma).init(spec, make_key(0)), alpha)
    step = alpha * 2 * np.log(2)
    shift = lambda member: replace(member, biases=(*member.biases[:-1], member.biases[-1] - gamma * step / (1 - gamma)))
    critic = replace(flat.likelihood.model, members=tuple(shift(member) for member in flat.likelihood.model.members))
    uniform = replace(flat, prior=fixed(Uniform(spec)), likelihood=learn(critic, adam(1e-3), tau=0.005))
    obs, key = jax.random.normal(make_key(1), (3,)), make_key(2)
    values = [agent.bootstrap(agent).value(rows.arriving(obs), key) for agent in (flat, uniform)]
    np.testing.assert_allclose(values[1] - values[0], -step / (1 - gamma), rtol=1e-5)
    # and Q of the shifted critic is the fixed point of its own shifted target
    np.testing.assert_allclose(gamma * (values[1] - values[0]), -gamma * step / (1 - gamma), rtol=1e-5)
    drawn = [
        agent.infer(agent.inference.model, agent.likelihood.model, obs, key)[0].sample(key) for agent in (flat, uniform)
    ]
    np.testing.assert_array_equal(*drawn)
