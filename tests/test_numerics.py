"""Numbers at the edge of float32, against mpmath and float64 (N01-N06, N14, N15)."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estep.core.learned import learn
from estep.core.optim import bounded_adam
from estep.core.types import Identity, Tanh, log_one_minus_tanh_squared
from estep.families.gaussian import Gaussian, Normal, gaussian_kl
from estep.families.uniform import Improper
from estep.inference.direct import Direct
from estep.inference.iterative import layer_norm, log_sign, raw
from estep.likelihoods.q_function import MeanMinusStd, biased_std, minimum
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS, KLConstraint
from estep.nets import MLP, parts, soft_bound

SIZES = np.concatenate(
    [[0.0], np.logspace(-15, 30, 181), np.logspace(-3, 0, 400), np.linspace(0.5, 25, 99), [1 - 6e-8, 1.0, 1 + 1.2e-7]]
)
POINTS = np.concatenate([SIZES, -SIZES]).astype(np.float32)
quick = settings(deadline=None, max_examples=60, derandomize=True)


def floats(low, high):
    return st.floats(low, high, width=32)


def huge():
    """Numbers of either sign and of every size from 1e-30 to 1e30."""
    return st.builds(
        lambda sign, size: float(np.float32(sign * 10.0**size)), st.sampled_from([-1, 1]), st.floats(-30, 30)
    )


@pytest.mark.parametrize("run", [lambda f: f, jax.jit, jax.vmap], ids=["eager", "jit", "vmap"])
def test_log_one_minus_tanh_squared_is_exact(run):
    with mpmath.workdps(60):
        size = [mpmath.mpf(abs(float(u))) for u in POINTS]
        # below 1 by its sinh, above by its logarithm: neither cancels
        true = [-2 * (x - mpmath.log(2) + mpmath.log1p(mpmath.exp(-2 * x))) for x in size]
        true = np.array([float(t if x > 1e-20 else -x * x) for t, x in zip(true, size, strict=True)])
    ours = np.asarray(run(log_one_minus_tanh_squared)(jnp.asarray(POINTS)), np.float64)
    np.testing.assert_allclose(ours, true, rtol=5e-7, atol=1e-37)


@pytest.mark.parametrize("run", [jax.vmap, lambda f: jax.jit(jax.vmap(f))], ids=["vmap", "jit"])
def test_log_one_minus_tanh_squared_has_the_gradient_minus_2_tanh(run):
    ours = run(jax.grad(log_one_minus_tanh_squared))(jnp.asarray(POINTS))
    np.testing.assert_allclose(ours, -2 * np.tanh(POINTS.astype(np.float64)), rtol=0, atol=1e-6)


def test_the_inverse_of_tanh_is_finite_up_to_the_end_points_and_says_where_it_clipped():
    action = jnp.asarray([-1.0, -1 + 6e-8, -0.999, 0.0, 1e-30, 0.5, 1 - 6e-8, 1.0], jnp.float32)
    u, clipped = Tanh().inverse(action)
    np.testing.assert_array_equal(clipped, [1, 1, 0, 0, 0, 0, 1, 1])
    np.testing.assert_allclose(u[jnp.array([2, 5])], np.arctanh([-0.999, 0.5]), rtol=1e-4)
    np.testing.assert_allclose(u[0], -u[-1])
    slope = jax.vmap(jax.grad(lambda a: Tanh().inverse(a)[0]))(action)
    assert np.isfinite(u).all()
    assert np.isfinite(slope).all()
    assert np.abs(u).max() < 8


@quick
@given(floats(-4, 4))
def test_tanh_and_its_inverse_are_inverses(u):
    back, clipped = Tanh().inverse(Tanh()(jnp.asarray([u], jnp.float32)))
    assert abs(float(back[0]) - u) < 1e-3
    assert not clipped[0]


def spread(key, n, a):
    """Noise that covers ±8 in every dimension."""
    return jnp.broadcast_to(jnp.linspace(-8, 8, n)[:, None], (n, a))


@pytest.mark.long
@quick
@given(floats(-1e6, 1e6), floats(-20, 5), st.sampled_from([1, 100]))
def test_the_density_of_an_own_draw_comes_from_its_noise(mu, log_sigma, dims):
    q = Normal(jnp.full(dims, mu, jnp.float32), jnp.full(dims, log_sigma, jnp.float32), spread)
    draws = q.draw(jax.random.key(0), 33, Improper(Identity(), dims))
    noise = np.linspace(-8, 8, 33, dtype=np.float32).astype(np.float64)
    true = dims * (-0.5 * noise**2 - np.float64(np.float32(log_sigma)) - 0.5 * np.log(2 * np.pi))
    # the sum of a hundred terms is as large as 5200: there a float32 step is 5e-4
    np.testing.assert_allclose(draws.log_ratio, true, rtol=3e-7, atol=1e-5 if dims == 1 else 1e-3)
    np.testing.assert_allclose(draws.weight.sum(), 1, rtol=1e-6)


def test_the_density_of_a_squashed_draw_against_mpmath():
    u = jnp.linspace(-15, 15, 61)
    q = Normal(jnp.asarray([0.7]), jnp.asarray([0.4]))
    ours = jax.vmap(lambda u: q.log_prob(u) - Tanh().log_det(u))(u[:, None])
    with mpmath.workdps(60):
        mu, ls = mpmath.mpf(float(q.mu[0])), mpmath.mpf(float(q.log_sigma[0]))
        base = [
            -(((mpmath.mpf(float(x)) - mu) / mpmath.exp(ls)) ** 2) / 2 - ls - mpmath.log(2 * mpmath.pi) / 2 for x in u
        ]
        true = [float(b - mpmath.log(1 - mpmath.tanh(mpmath.mpf(float(x))) ** 2)) for b, x in zip(base, u, strict=True)]
    np.testing.assert_allclose(ours, true, rtol=1e-5, atol=1e-5)


RAW = np.concatenate([POINTS, np.linspace(-20, 20, 81, dtype=np.float32)])


@quick
@given(st.lists(huge(), min_size=6, max_size=6))
def test_parts_are_slices_and_so_is_their_gradient(numbers):
    x = jnp.asarray(numbers, jnp.float32)
    apart = lambda x: parts(x, (3, 1, 2))
    slices = lambda x: [x[:3], x[3:4], x[4:]]
    for one, other in zip(apart(x), slices(x), strict=True):
        assert np.array_equal(one, other)
    value = lambda cut: lambda x: sum((k + 1.0) * jnp.tanh(part).sum() for k, part in enumerate(cut(x)))
    assert np.array_equal(jax.grad(value(apart))(x), jax.grad(value(slices))(x))


@pytest.mark.parametrize(("low", "high"), [(-10.0, 2.0), (-10.0, 0.5), (-20.0, 2.0)])
def test_soft_bound_stays_inside_with_a_slope_everywhere(low, high):
    bound = lambda x: soft_bound(x, jnp.asarray(low), jnp.asarray(high))
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(bound)))(jnp.asarray(RAW))
    assert (value >= low).all()
    assert (value <= high + np.log1p(np.exp(low - high)) + 1e-6).all()
    assert np.isfinite(slope).all()
    assert (slope >= 0).all()
    assert (slope[np.abs(RAW) <= 20] > 0).all()
    true = high - np.logaddexp(0, high - RAW.astype(np.float64))
    np.testing.assert_allclose(value, low + np.logaddexp(0, true - low), rtol=1e-6, atol=2e-6)


def test_a_posterior_bounds_its_log_scales_and_nothing_else():
    lam = jnp.asarray([1e30, -1e30, 1e30, -1e30], jnp.float32)
    bounded = Gaussian(2).bound(lam, jnp.full(2, -10.0), jnp.full(2, 2.0))
    np.testing.assert_array_equal(bounded[:2], lam[:2])
    np.testing.assert_allclose(bounded[2:], [2.0, -10.0], atol=1e-4)


@pytest.mark.long
@quick
@given(huge(), huge())
def test_direct_inference_gives_a_bounded_scale_and_a_finite_gradient(scale, obs):
    net = MLP((jnp.ones((1, 3)),), (jnp.full((3, 2), scale),), (jnp.zeros(3), jnp.zeros(2)), jnp.tanh)
    problem = type("Problem", (), {"obs": jnp.asarray([obs], jnp.float32)})
    log_sigma = lambda net: Direct(net)(problem, Gaussian(1), jax.random.key(0)).lam[1]
    value, grads = jax.value_and_grad(log_sigma)(net)
    assert -10 <= value <= 2.001
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_the_temperature_survives_ten_thousand_absurd_errors():
    signs = np.stack([np.ones(10_000), -np.ones(10_000), np.random.default_rng(0).choice([-1.0, 1.0], 10_000)])

    def step(learned, error):
        learned = learned.descend(lambda alpha: alpha.loss(error[None]))[0]
        sound = learned.pending.sound
        learned = learned.step(sound)
        return learned, (learned.model(), sound)

    def run(errors):
        start = learn(KLConstraint(jnp.zeros(()), 1.0), bounded_adam(1e-2, *LOG_ALPHA_BOUNDS))
        return jax.lax.scan(step, start, errors)

    last, (alpha, sound) = jax.jit(jax.vmap(run))(jnp.asarray(1e30 * signs, jnp.float32))
    assert np.isfinite(alpha).all()
    assert (alpha > 0).all()
    assert sound.all()
    low, high = LOG_ALPHA_BOUNDS
    np.testing.assert_allclose(last.model.log_alpha[:2], [high, low], rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(last))


@quick
@given(
    floats(-20, 5),
    st.sampled_from([0.0, 1e-6, 1e-5, 1e-4, 1e-3, 9e-3, 1.1e-2, 0.1, 1.0, 10.0]),
    floats(-3, 3),
    st.booleans(),
)
def test_the_kl_of_gaussians_against_float64(log_sigma, change, shift, narrower):
    p = np.float32(log_sigma)
    q = np.float32(p + (-change if narrower else change))
    mean = np.float32(shift * np.exp(np.float64(p)))
    of = lambda mu, ls: Normal(jnp.asarray([mu], jnp.float32), jnp.asarray([ls], jnp.float32))
    ours = float(gaussian_kl(of(mean, q), of(0.0, p)))
    with mpmath.workdps(50):
        d = mpmath.mpf(float(q)) - mpmath.mpf(float(p))
        true = (mpmath.exp(2 * d) - 1 - 2 * d) / 2 + (
            mpmath.mpf(float(mean)) * mpmath.exp(-mpmath.mpf(float(p)))
        ) ** 2 / 2
    assert ours >= 0
    np.testing.assert_allclose(ours, float(true), rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("members", [2, 3, 5])
@pytest.mark.parametrize("apart", [0.0, 1e-30, 1e-3, 1.0, 1e15, 1e30])
def test_the_spread_of_an_ensemble_has_a_bounded_gradient(members, apart):
    values = jnp.asarray(apart * np.linspace(-1, 1, members), jnp.float32)
    value, grad = jax.value_and_grad(biased_std)(values)
    np.testing.assert_allclose(value, np.std(np.asarray(values, np.float64)), rtol=1e-5, atol=1.1e-3)
    assert np.isfinite(grad).all()
    assert np.linalg.norm(grad) <= 1
    pessimistic, grad = jax.value_and_grad(lambda v: MeanMinusStd(3.54)(v))(values)
    assert np.isfinite(pessimistic)
    assert np.isfinite(grad).all()


@quick
@given(floats(-1e6, 1e6), floats(-1e6, 1e6))
def test_mean_minus_one_std_of_two_is_the_minimum(first, second):
    values = jnp.asarray([first, second], jnp.float32)
    np.testing.assert_allclose(
        MeanMinusStd(1.0)(values), minimum(values), rtol=1e-6, atol=1e-6 * max(abs(first), abs(second))
    )
    if abs(first - second) > 1:
        np.testing.assert_array_equal(jax.grad(lambda v: MeanMinusStd(1.0)(v))(values), jax.grad(minimum)(values))


@pytest.mark.parametrize("dims", [2, 3, 17, 1000])
@pytest.mark.parametrize("make", ["random", "equal", "one"])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-8, 1.0, 1e8, 1e30])
def test_encodings_are_finite_and_bounded(dims, make, size):
    rng = np.random.default_rng(dims)
    shape = {"random": rng.uniform(-1, 1, dims), "equal": np.ones(dims), "one": np.eye(dims)[0]}[make]
    grad = jnp.asarray(size * np.concatenate([shape, -shape]), jnp.float32)
    for code in (log_sign, layer_norm):
        _, read = code(jnp.zeros(2 * dims), grad, (dims, dims))
        assert np.isfinite(read).all()
        assert np.abs(read).max() <= 100
    lam, _ = layer_norm(grad, grad, (dims, dims))
    assert np.isfinite(lam).all()
    assert np.abs(lam).max() <= 100


@quick
@given(st.lists(floats(-3, 3), min_size=3, max_size=8), st.floats(-6, 6))
def test_layer_norm_ignores_the_scale_and_matches_its_definition(values, size):
    x = np.asarray(values, np.float32)
    if x.std() < 1e-2:
        return
    standard = (x - x.mean()) / (x.std(ddof=1) + 1e-7)
    for scale in (1.0, 10.0**size):
        part = jnp.asarray(np.float32(scale) * x)
        _, read = layer_norm(jnp.concatenate([part, part]), jnp.concatenate([part, -part]), (len(x), len(x)))
        np.testing.assert_allclose(read, np.concatenate([standard, -standard]), rtol=1e-2, atol=1e-3)


def test_a_part_of_one_dimension_passes_through_layer_norm_and_raw_changes_nothing():
    lam, grad = jnp.asarray([3.0, -2.0]), jnp.asarray([1e6, -1e-6])
    for code in (layer_norm, raw):
        np.testing.assert_array_equal(code(lam, grad, (1, 1)), (lam, grad))
    kept, signed = log_sign(lam, grad, (1, 1))
    np.testing.assert_array_equal(kept, lam)
    np.testing.assert_allclose(signed, [np.log1p(1e7), -np.log1p(1e-5)], rtol=1e-5)
