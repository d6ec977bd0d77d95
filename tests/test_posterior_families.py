"""What every family of posteriors promises, against quadrature over u, numpyro and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from estep.core.keys import make_key
from estep.core.objective import soft_value
from estep.core.optim import adam
from estep.core.slots import Likelihood, Problem
from estep.core.types import Identity, Spec
from estep.errors import UsageError
from estep.families.autoregressive import Autoregressive
from estep.families.full_gaussian import FullGaussian, FullNormal, full_kl
from estep.families.gaussian import Gaussian, Normal
from estep.families.mixture import Mixture, spread
from estep.families.noise import antithetic
from estep.families.uniform import UniformSquashed
from estep.inference.gradient import GradientAscent
from estep.inference.starts import Restarts, distinct_modes
from estep.priors.flat import Flat
from estep.priors.gaussian import FixedGaussian
from estep.priors.uniform import Uniform
from oracles import rows

pytestmark = pytest.mark.long

ALPHA, COMPONENTS = 0.4, 3
KINDS = {
    "gaussian": Gaussian,
    "full": FullGaussian,
    "mixture": lambda a, **rest: Mixture(a, COMPONENTS, **rest),
    "autoregressive": Autoregressive,
}
every_kind = pytest.mark.parametrize("kind", KINDS)
one_and_two = pytest.mark.parametrize("a", [1, 2])


def some(family, seed=0, size=0.8):
    """A λ with every element at work and scales between 0.3 and 0.7."""
    raw = jnp.asarray(size * np.random.default_rng(seed).normal(size=sum(family.block_sizes)))
    return family.bound(raw, jnp.full(family.num_scales, -1.2), jnp.full(family.num_scales, -0.4))


def grid(a, reach=7.0):
    """Points u that cover everything, and the weight of each: sums over them converge exponentially."""
    u = np.linspace(-reach, reach, 1401 if a == 1 else 281)
    points = np.stack([x.ravel() for x in np.meshgrid(*[u] * a)], -1)
    return jnp.asarray(points), (u[1] - u[0]) ** a


def bumps(action, xp=jnp):
    """A skew Q on the box whose dimensions interact."""
    return -1.5 * ((action - 0.3) ** 2).sum(-1) + 0.5 * xp.sin(3.0 * action.sum(-1)) - 0.4 * action.prod(-1)


class Bumps(Likelihood):
    """`bumps` as the critic."""

    def __call__(self, problem, action, key):
        return bumps(jnp.tanh(action))

    def loss(self, batch, bootstrap, key):
        return jnp.zeros(()), {}


def bounded(a):
    return Problem(jnp.zeros(1), Uniform(Spec(1, a)), Bumps(), jnp.asarray(ALPHA))


def by_quadrature(family, problem, points, weight):
    """∫q and V(q) as functions of λ, by sums over the grid."""

    def sums(lam):
        log_q = jax.vmap(family(lam).log_prob)(points)
        log_p = jax.vmap(problem.prior(problem.obs).log_prob)(points)
        q = jnp.exp(log_q) * weight
        return q.sum(), q @ (bumps(jnp.tanh(points)) - problem.alpha * (log_q - log_p))

    return sums


def agree(sampled, true, sigmas=4.0):
    """Means over the first axis lie within some of their standard errors of the truth."""
    sampled = np.asarray(sampled, np.float64)
    error = sampled.std(0, ddof=1) / np.sqrt(len(sampled))
    assert np.all(np.abs(sampled.mean(0) - np.asarray(true)) < sigmas * error + 1e-6)


@every_kind
@one_and_two
def test_density_draws_value_and_gradient_agree_with_quadrature(kind, a):
    family = KINDS[kind](a)
    with jax.enable_x64(True):
        lam, problem, (points, weight) = some(family), bounded(a), grid(a)
        sums = by_quadrature(family, problem, points, weight)
        mass, value = rows.compiled(sums)(lam)
        slope = rows.compiled(jax.grad(lambda lam: sums(lam)[1]))(lam)
        q = np.exp(rows.compiled(jax.vmap(family(lam).log_prob))(points)) * weight
    np.testing.assert_allclose(mass, 1.0, atol=1e-8)
    lam, problem = jnp.asarray(lam, jnp.float32), bounded(a)
    estimate = lambda lam, key: soft_value(family(lam), problem, key, 6)[0]
    keys = jax.random.split(make_key(1), 4000)
    values, slopes = rows.compiled(jax.vmap(jax.value_and_grad(estimate), (None, 0)))(lam, keys)
    points = np.asarray(points)
    agree(values, value, 3.0)
    agree(slopes, slope)
    assert np.abs(slope).min() > 1e-4  # every element of λ is at work
    samples = np.asarray(rows.compiled(jax.vmap(family(lam).sample))(keys))
    agree(samples, q @ points)
    agree(samples.prod(1) ** 2, q @ points.prod(1) ** 2)
    agree(np.sin(2 * samples.sum(1)), q @ np.sin(2 * points.sum(1)))


@every_kind
@one_and_two
def test_the_objective_is_the_evidence_less_the_divergence(kind, a):
    copies = COMPONENTS if kind == "mixture" else 1
    x, h = np.polynomial.hermite_e.hermegauss(80)
    nodes = np.stack([v.ravel() for v in np.meshgrid(*[x] * a)], -1)
    weights = np.prod([v.ravel() for v in np.meshgrid(*[h / np.sqrt(2 * np.pi)] * a)], 0)
    legendre, w = np.polynomial.legendre.leggauss(200)
    box = np.stack([v.ravel() for v in np.meshgrid(*[legendre] * a)], -1)
    volume = np.prod([v.ravel() for v in np.meshgrid(*[w] * a)], 0)
    evidence = ALPHA * np.log(volume @ np.exp(bumps(box, np) / ALPHA) / 2**a)
    with jax.enable_x64(True):
        family = KINDS[kind](a, noise=lambda key, n, a: jnp.asarray(np.repeat(nodes, copies, 0)))
        q, (points, area) = family(some(family)), grid(a)
        # V from the draws: the noise is the nodes of Gauss and Hermite, once for each component
        draws = q.draw(make_key(0), copies * len(nodes), UniformSquashed(a))
        weight = np.asarray(draws.weight) * np.repeat(weights * len(nodes), copies)
        value = weight @ np.asarray(bumps(jnp.tanh(draws.action)) - ALPHA * draws.log_ratio)
        # the divergence from the densities
        log_q, log_p = (np.asarray(jax.jit(jax.vmap(d.log_prob))(points)) for d in (q, UniformSquashed(a)))
        log_posterior = log_p + (bumps(np.tanh(points), np) - evidence) / ALPHA
        divergence = area * np.exp(log_q) @ (log_q - log_posterior)
    assert divergence > 0.1
    assert abs(value - (evidence - ALPHA * divergence)) < 1e-6


@every_kind
def test_the_log_density_is_that_of_numpyro(kind):
    a = 3
    family = KINDS[kind](a)
    q = family(some(family, size=0.6))
    u = jax.random.normal(make_key(0), (50, a))
    ours = rows.compiled(jax.vmap(q.log_prob))(u)
    with jax.numpy_rank_promotion("allow"):
        true = rows.compiled(lambda u: theirs(kind, q, u))(u)
    np.testing.assert_allclose(ours, true, rtol=1e-5, atol=2e-5)


def theirs(kind, q, u):
    """The log density by numpyro, from the parameters as the docstrings define them."""
    if kind == "gaussian":
        return dist.Normal(q.mu, jnp.exp(q.log_sigma)).to_event(1).log_prob(u)
    if kind == "full":
        factor = jnp.exp(q.log_sigma)[:, None] * (jnp.eye(len(q.mu)) + q.lower)
        return dist.MultivariateNormal(q.mu, scale_tril=factor).log_prob(u)
    if kind == "mixture":
        parts = dist.Normal(q.mu, jnp.exp(q.log_sigma)).to_event(1)
        return dist.MixtureSameFamily(dist.Categorical(logits=q.logits), parts).log_prob(u)
    total = jnp.zeros(len(u))
    for i in range(u.shape[1]):
        t = jnp.tanh(u[:, :i])
        sigma = jnp.exp(q.log_sigma[i] + t @ jnp.tanh(q.fan[i, :i]) / (u.shape[1] - 1))
        total = total + dist.Normal(q.mu[i] + t @ q.bend[i, :i], sigma).log_prob(u[:, i])
    return total


def divergence(q, p):
    """KL of two Gaussians from their covariances, in float64."""
    (m_q, s_q), (m_p, s_p) = (moments(x) for x in (q, p))
    spread = np.trace(np.linalg.solve(s_p, s_q)) - len(m_q) + np.linalg.slogdet(s_p)[1] - np.linalg.slogdet(s_q)[1]
    return 0.5 * (spread + (m_p - m_q) @ np.linalg.solve(s_p, m_p - m_q))


def moments(q):
    """Mean and covariance of a `FullNormal`."""
    mu, log_sigma, lower = (np.asarray(x, np.float64) for x in (q.mu, q.log_sigma, q.lower))
    factor = np.exp(log_sigma)[:, None] * (np.eye(len(mu)) + lower)
    return mu, factor @ factor.T


def test_the_divergence_of_two_full_gaussians_has_a_closed_form():
    family, kl = FullGaussian(3), rows.compiled(full_kl)
    q, p = family(some(family, 0)), family(some(family, 1))
    np.testing.assert_allclose(kl(q, p), divergence(q, p), rtol=1e-5)
    assert kl(q, q) == 0
    near = family(some(family, 0) + 1e-3 * some(family, 2))
    np.testing.assert_allclose(kl(near, q), divergence(near, q), rtol=2e-3)
    log_ratio = rows.compiled(lambda prior: q.draw(make_key(0), 4, prior).log_ratio)
    np.testing.assert_allclose(log_ratio(p), np.full(4, divergence(q, p)), rtol=1e-5)
    diagonal = FullNormal(p.mu, p.log_sigma, jnp.zeros((3, 3)))
    np.testing.assert_allclose(log_ratio(Normal(p.mu, p.log_sigma)), np.full(4, divergence(q, diagonal)), rtol=1e-5)


@every_kind
@one_and_two
def test_a_family_starts_at_the_prior_it_holds_and_anywhere_finite(kind, a):
    family = KINDS[kind](a)
    priors = Flat(Spec(1, a)), Uniform(Spec(1, a)), FixedGaussian(jnp.full(a, 0.4), jnp.full(a, 0.7))
    for prior in priors:
        assert np.isfinite(family.start(prior(jnp.zeros(1)))).all()
    own = some(family)
    np.testing.assert_allclose(family.start(family(own)), own, rtol=1e-6)
    u, prior = jnp.linspace(-1, 1, a), priors[2](jnp.zeros(1))
    if kind != "mixture":
        np.testing.assert_allclose(family(family.start(prior)).log_prob(u), prior.log_prob(u), rtol=1e-5)


def test_the_components_of_a_mixture_start_apart_around_the_prior():
    for n, a in ((2, 1), (5, 2), (8, 6)):
        places = spread(n, a)
        np.testing.assert_allclose(places.mean(0), 0, atol=1e-12)
        apart = np.abs(places[:, None] - places[None]).max(-1) + 9 * np.eye(n)
        assert apart.min() > 0.3


@every_kind
@one_and_two
def test_bound_moves_the_log_scales_alone_and_into_their_limits(kind, a):
    family = KINDS[kind](a)
    low, high = jnp.full(family.num_scales, -3.0), jnp.full(family.num_scales, 0.5)
    for far in (-1e4, 1e4):
        lam = jnp.full(sum(family.block_sizes), far)
        moved = np.asarray(family.bound(lam, low, high))
        inside = moved[moved != far]
        assert len(inside) == family.num_scales
        assert (inside >= -3).all()
        assert (inside <= 0.5 + np.log1p(np.exp(-3.5)) + 1e-6).all()


@every_kind
def test_value_and_gradient_are_finite_at_the_limits(kind):
    family = KINDS[kind](2)
    extremes = [(1.0, -10.0), (1.0, 2.0), (300.0, -10.0), (300.0, 2.0), (1e4, 0.0)]
    limits = lambda log_sigma: (jnp.full(family.num_scales, log_sigma),) * 2
    lams = jnp.stack([family.bound(size * some(family, i), *limits(s)) for i, (size, s) in enumerate(extremes)])
    both = jax.value_and_grad(lambda lam, key: soft_value(family(lam), bounded(2), key, 6)[0])
    found = rows.compiled(jax.vmap(both))(lams, jax.random.split(make_key(0), len(extremes)))
    assert all(np.isfinite(leaf).all() for leaf in found)


@pytest.mark.parametrize("family", [FullGaussian(1), Mixture(1, 1), Autoregressive(1)], ids=type)
def test_the_density_of_an_own_draw_comes_from_its_noise(family):
    """At σ = e^-10 and u near 300, where (u - μ)/σ has no digits left."""
    lam = jnp.asarray([300.0, -10.0])
    q = family(jnp.concatenate([jnp.zeros(sum(family.block_sizes) - 2), lam]))
    draws = q.draw(make_key(0), 9, Flat(Spec(1, 1, Identity()))(jnp.zeros(1)))
    noise = np.asarray(q.noise(make_key(0), 9, 1))[:, 0]
    np.testing.assert_allclose(draws.log_ratio, -0.5 * noise**2 + 10 - 0.5 * np.log(2 * np.pi), rtol=1e-5)


@every_kind
def test_the_mode_is_where_the_density_is_highest(kind):
    family = KINDS[kind](2)
    lam = some(family)
    if kind == "mixture":  # far apart
        lam = lam.at[3:9].set(jnp.asarray([-9.0, 0.0, 0.0, 9.0, 9.0, 0.0]))
    if kind == "autoregressive":  # scales that do not depend on the dimensions before
        lam = lam.at[-1].set(0.0)
    q = family(lam)
    others = rows.compiled(jax.vmap(lambda key: q.log_prob(q.sample(key))))(jax.random.split(make_key(0), 300))
    highest, slope = rows.compiled(lambda: jax.value_and_grad(q.log_prob)(q.mode()))()
    assert highest >= others.max() - 1e-5
    np.testing.assert_allclose(slope, 0.0, atol=1e-4)


@pytest.mark.parametrize("kind", ["gaussian", "full"])
def test_a_fit_to_the_weighted_density_finds_its_parameters(kind):
    family = KINDS[kind](2)
    points, weight = grid(2)
    points = jnp.asarray(points, jnp.float32)
    fitted = rows.compiled(lambda lam: family.fit(points, weight * jnp.exp(jax.vmap(family(lam).log_prob)(points))))
    np.testing.assert_allclose(fitted(some(family)), some(family), rtol=1e-3, atol=1e-4)
    alone = rows.compiled(family.fit)(points[:5], jnp.asarray([1.0, 0.0, 0.0, 0.0, 0.0]))
    assert np.isfinite(alone).all()


def test_a_mixture_refuses_fewer_draws_than_components():
    family = Mixture(1, 3)
    with pytest.raises(UsageError, match="3 components cannot be drawn 2 times"):
        family(some(family)).draw(make_key(0), 2, UniformSquashed(1))


TRUTH = np.array([0.35, 0.65]), np.array([-1.5, 1.2]), np.array([0.3, 0.4])


class TwoModes(Likelihood):
    """Q whose posterior under the prior N(0, 4) is a mixture of two Gaussians."""

    def __call__(self, problem, action, key):
        w, mu, sigma = (jnp.asarray(x, jnp.float32) for x in TRUTH)
        log_posterior = jax.nn.logsumexp(jnp.log(w / sigma) - 0.5 * jnp.square((action - mu) / sigma))
        return ALPHA * (log_posterior + 0.5 * jnp.square(action[0] / 2.0) + jnp.log(2.0))

    def loss(self, batch, bootstrap, key):
        return jnp.zeros(()), {}


def test_a_mixture_finds_both_modes_and_a_gaussian_one():
    problem = Problem(jnp.zeros(1), FixedGaussian(jnp.zeros(1), jnp.full(1, 2.0)), TwoModes(), jnp.asarray(ALPHA))
    ascent = GradientAscent(600, 100, adam(3e-2))
    mixture, gaussian = Mixture(1, 2, antithetic), Gaussian(1, antithetic)
    lam = rows.compiled(lambda key: ascent(problem, mixture, key).lam)(make_key(0))
    logits, mu, log_sigma = np.asarray(lam).reshape(3, 2)[:, np.argsort(lam[2:4])]
    np.testing.assert_allclose(jax.nn.softmax(logits), TRUTH[0], atol=0.05)
    np.testing.assert_allclose(mu, TRUTH[1], atol=0.1)
    np.testing.assert_allclose(np.exp(log_sigma), TRUTH[2], atol=0.05)
    # V = α log Z - α KL, and α log Z = 0: the whole posterior has V = 0, a mode of weight w has V = α log w
    restarts = Restarts(ascent, 8, 1.5)
    runs, values = rows.compiled(lambda k: restarts.runs(problem, gaussian, k))(make_key(1))
    modes = np.asarray(distinct_modes(runs.lam, values, 0.5))
    assert modes.sum() == 2
    found = np.argsort(np.asarray(runs.lam)[modes][:, 0])
    np.testing.assert_allclose(np.asarray(runs.lam)[modes][found, 0], TRUTH[1], atol=0.1)
    np.testing.assert_allclose(np.asarray(values)[modes][found], ALPHA * np.log(TRUTH[0]), atol=0.05)
    best = rows.compiled(lambda k: restarts(problem, gaussian, k).lam)(make_key(1))
    np.testing.assert_allclose(best[0], 1.2, atol=0.1)


class Bend(Likelihood):
    """Q whose ridge is a curve."""

    def __call__(self, problem, action, key):
        x, y = action
        return -0.5 * jnp.square(x) - 4.0 * jnp.square(y - 1.5 * jnp.sin(1.5 * x))

    def loss(self, batch, bootstrap, key):
        return jnp.zeros(()), {}


def test_richer_families_come_closer_to_a_bent_posterior():
    prior = FixedGaussian(jnp.zeros(2), jnp.full(2, 2.0))
    problem = Problem(jnp.zeros(1), prior, Bend(), jnp.asarray(ALPHA))

    def best(family):
        k_run, k_judge = jax.random.split(make_key(0))
        lam = GradientAscent(400, 12, adam(2e-2))(problem, family, k_run).lam
        return soft_value(family(lam), problem, k_judge, 6000)[0]

    values = [
        rows.compiled(best, static_argnums=0)(kind(2, antithetic)) for kind in (Gaussian, FullGaussian, Autoregressive)
    ]
    u, area = grid(2)
    q = -0.5 * u[:, 0] ** 2 - 4.0 * (u[:, 1] - 1.5 * np.sin(1.5 * u[:, 0])) ** 2
    log_p = -0.5 * (u**2).sum(1) / 4 - np.log(2 * np.pi * 4)
    evidence = ALPHA * np.log(area * np.exp(log_p + q / ALPHA).sum())
    gaps = evidence - np.asarray(values)
    assert (gaps > -0.01).all()
    assert gaps[1] < 0.85 * gaps[0]
    assert gaps[2] < 0.6 * gaps[1]
