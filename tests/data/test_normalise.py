import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.data.normalise import Moments, normalise
from estep.errors import RejectedInput


@pytest.mark.parametrize("mean", [0.0, 1.0, 1e4, 1e8, -1e8])
@pytest.mark.parametrize("deviation", [1e-6, 1e-3, 1.0, 1e6])
def test_moments_are_exact_over_all_scales(mean, deviation):
    rows = mean + deviation * np.random.default_rng(0).standard_normal((3000, 2))
    sizes = np.split(rows, [1, 2, 10, 11, 500, 1700])
    moments = Moments(2)
    for batch in sizes:
        moments.update(batch)
    centred = rows.astype(np.longdouble) - rows[0]  # exact, so the reference keeps its digits
    exact_mean, exact_variance = rows[0] + centred.mean(0), centred.var(0)
    assert moments.count == 3000
    np.testing.assert_allclose(moments.mean64, exact_mean.astype(float), rtol=1e-12, atol=1e-6 * deviation)
    np.testing.assert_allclose(moments.variance, exact_variance.astype(float), rtol=1e-9)
    backwards, halves = Moments(2), [Moments(2), Moments(2)]
    for i, batch in enumerate(sizes[::-1]):
        backwards.update(batch)
        halves[i % 2].update(batch)
    halves[0].merge(halves[1])
    for other in (backwards, halves[0]):
        np.testing.assert_allclose(other.mean64, moments.mean64, rtol=1e-12, atol=1e-6 * deviation)
        np.testing.assert_allclose(other.variance, moments.variance, rtol=1e-9)


def test_a_thousand_million_rows():
    moments, block = Moments(1), Moments(1)
    rows = 1e4 + np.random.default_rng(0).standard_normal((1000, 1))
    block.update(rows)
    for _ in range(20):  # doubling: 1,000 * 2^20 rows
        moments = Moments(1)
        moments.merge(block)
        moments.merge(block)
        block = moments
    assert moments.count == 1000 * 2**20
    np.testing.assert_allclose(moments.mean64, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, rows.var(0), rtol=1e-9)
    moments.update(rows[:3])
    assert moments.count == 1000 * 2**20 + 3


def test_skips_rows_that_are_not_finite_and_floors_the_variance():
    moments = Moments(2)
    assert moments.scale.tolist() == [1, 1]
    moments.update(np.array([[np.nan, 1], [np.inf, 2]]))
    assert moments.count == 0
    moments.update(np.array([[3, 1], [3, -np.inf], [3, 3]], np.float32))
    assert moments.count == 2
    assert moments.mean.tolist() == [3, 2]
    np.testing.assert_allclose(moments.scale, [1e4, 1.0], rtol=1e-6)
    assert moments.mean.dtype == moments.scale.dtype == np.float32
    other = Moments(2)
    other.merge(Moments(2))
    assert other.count == 0


def test_round_trip_is_exact():
    rows = np.random.default_rng(0).standard_normal((50, 3)) + 7
    one, two = Moments(3), Moments(3)
    one.update(rows)
    saved = one.arrays()
    two.load(saved)
    for moments in (one, two):
        moments.update(rows[:7])
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one.arrays().values(), two.arrays().values(), strict=True))
    assert saved["count"] == 50
    for broken in ({}, {**saved, "offset": saved["offset"][:2]}, {**saved, "squares": saved["squares"] * np.nan}):
        with pytest.raises(RejectedInput):
            two.load(broken)


def test_normalise_clips_inside_jit():
    out = jax.jit(normalise)(jnp.array([[1.0, 2.0, 1e9], [0.0, 0.0, -1e9]]), jnp.ones(3), jnp.array([1.0, 2.0, 1.0]))
    assert out.tolist() == [[0, 2, 10], [-1, -2, -10]]


@pytest.mark.parametrize(("mean", "deviation"), [(1e6, 1.0), (0.0, 1e-6), (5.0, 0.0), (1e30, 1e28)])
def test_extremes_stay_finite(mean, deviation):
    rows = (mean + deviation * np.random.default_rng(0).standard_normal((500, 1))).astype(np.float32)
    moments = Moments(1)
    moments.update(rows)
    out = np.asarray(normalise(jnp.asarray(rows), jnp.asarray(moments.mean), jnp.asarray(moments.scale)))
    assert np.isfinite(out).all()
    assert (abs(out) <= 10).all()
    assert (moments.variance >= 0).all()


def test_the_numbers_at_the_end_are_left_as_they_are():
    """The one-hot vector of a task: of a task that was never met it would have variance 0 and be blown up."""
    rows = np.random.default_rng(0).normal(2.0, 3.0, (50, 4)).astype(np.float32)
    rows[:, 2:] = [1.0, 0.0]
    moments, plain = Moments(4, left=2), Moments(2)
    for one, given in ((moments, rows), (plain, rows[:, :2])):
        one.update(given)
    np.testing.assert_array_equal(moments.mean, [*plain.mean, 0.0, 0.0])
    np.testing.assert_array_equal(moments.scale, [*plain.scale, 1.0, 1.0])
    np.testing.assert_array_equal(Moments(4, left=2).scale, np.ones(4))
    again = Moments(4, left=2)
    again.load(moments.arrays())
    np.testing.assert_array_equal(again.scale, moments.scale)
