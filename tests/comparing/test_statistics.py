"""The statistics of comparisons: against rliable, by hand, and how often their intervals contain the truth."""

import functools as ft
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from estep.comparing import statistics
from estep.instruments.interval import interquartile, interval, share_limits

RLIABLE = json.loads((Path(__file__).parents[1] / "oracles" / "rliable.json").read_text())


def group(name, scores="scores"):
    return [np.array(task) for task in RLIABLE[scores][name]]


@pytest.mark.parametrize("name", ["first", "second"])
@pytest.mark.parametrize("kind", ["interquartile_mean", "mean", "median", "optimality_gap"])
def test_aggregates_are_those_of_rliable(name, kind):
    assert float(getattr(statistics, kind)(group(name))) == pytest.approx(RLIABLE["aggregates"][kind][name], abs=1e-9)


@pytest.mark.parametrize("name", ["first", "second"])
def test_the_performance_profile_is_that_of_rliable(name):
    found = statistics.profile(group(name), RLIABLE["places"])
    np.testing.assert_allclose(found, RLIABLE["profile"][name], atol=1e-9)


@pytest.mark.parametrize(("scores", "wanted"), [("scores", "chance"), ("equal", "chance_equal")])
def test_the_probability_of_improvement_is_that_of_rliable(scores, wanted):
    found = statistics.chance(group("first", scores), group("second", scores))
    assert float(found) == pytest.approx(RLIABLE[wanted], abs=1e-9)
    back = statistics.chance(group("second", scores), group("first", scores))
    assert float(back) == pytest.approx(1 - RLIABLE[wanted], abs=1e-9)


@pytest.mark.parametrize("kind", ["interquartile_mean", "mean", "median", "optimality_gap"])
def test_the_limits_of_the_bootstrap_are_near_those_of_rliable(kind):
    found = statistics.bootstrap(getattr(statistics, kind), group("first"))
    np.testing.assert_allclose(found, RLIABLE["limits"][kind], atol=0.015)  # of other resamples


def test_the_limits_of_the_chance_are_near_those_of_rliable():
    found = statistics.bootstrap(statistics.chance, group("first"), group("second"))
    np.testing.assert_allclose(found, RLIABLE["chance_limits"], atol=0.015)


def test_a_bootstrap_resamples_the_seeds_of_each_task_alone():
    far = [np.array([0.0, 0.0, 0.0]), np.array([100.0, 100.0])]
    assert statistics.bootstrap(statistics.mean, far).tolist() == [50.0, 50.0]  # tasks are no sample
    single = [np.array([1.0, 2.0, 3.0]), np.array([5.0])]
    assert np.isnan(statistics.bootstrap(statistics.mean, single)).all()
    places = statistics.bootstrap(ft.partial(statistics.profile, scores=[-1.0, 50.0, 200.0]), far)
    assert places.tolist() == [[1.0, 0.5, 0.0], [1.0, 0.5, 0.0]]


def test_the_interval_of_a_share_is_that_of_wilson():
    for above, count in ((0, 3), (2, 5), (7, 7)):
        wanted = stats.binomtest(above, count).proportion_ci(method="wilson")
        found = share_limits(above / count, count)
        np.testing.assert_allclose(found, (wanted.low, wanted.high), atol=1e-12)


def test_the_interval_of_a_median_is_two_of_the_numbers():
    assert np.isnan(statistics.median_limits(np.arange(5.0))).all()
    assert statistics.median_limits(np.arange(6.0)) == (0.0, 5.0)
    for count in (9, 20):
        found = statistics.median_limits(np.arange(float(count)))
        wanted = stats.quantile_test(np.arange(float(count)), q=0, p=0.5).confidence_interval(0.95)
        assert found == (wanted.low, wanted.high)


@pytest.mark.parametrize(("first", "second"), [(3, 3), (5, 10)])
def test_the_interval_of_a_chance_holds_it_and_never_claims_more_than_its_seeds(first, second):
    low, high = statistics.chance_limits(1.0, first, second)
    assert (high, 0.5 < low < 0.8) == (1.0, True)
    mirrored = statistics.chance_limits(0.0, first, second)
    np.testing.assert_allclose(mirrored, (0.0, 1 - low), atol=1e-12)
    low, high = statistics.chance_limits(0.5, first, second)
    assert low == pytest.approx(1 - high)
    # The root that it looks for: value and limit are 1.96 standard errors of the limit apart.
    shape = 1 + ((first + second) / 2 - 1) * ((1 - low) / (2 - low) + low / (1 + low))
    assert (0.5 - low) ** 2 == pytest.approx(1.96**2 * low * (1 - low) * shape / (first * second), rel=1e-4)


def test_below_ten_seeds_the_interquartile_mean_has_the_error_of_student():
    values = [1.0, 2.0, 4.0, 8.0, 100.0]
    found, of_mean = interquartile(values), interval(values)
    assert found.mean == pytest.approx((2 + 4 + 8) / 3)
    assert found.high - found.low == pytest.approx(of_mean.high - of_mean.low)
    assert np.isnan(interquartile([1.0, float("nan"), *range(10)])).all()  # the worst seed is not left out


@pytest.mark.long
@pytest.mark.parametrize("count", [4, 5, 7, 9])
def test_intervals_of_few_seeds_contain_the_truth(count):
    rng = np.random.default_rng(count)
    held = np.mean([limits.low < 0.0 < limits.high for limits in map(interquartile, rng.normal(size=(4000, count)))])
    assert 0.93 < held < 0.97


@pytest.mark.long
@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_intervals_of_a_chance_contain_the_truth(shift):
    rng, truth, held = np.random.default_rng(5), stats.norm.cdf(shift / np.sqrt(2)), []
    for _ in range(1000):
        a, b = rng.normal(shift, 1.0, 5), rng.normal(0.0, 1.0, 5)
        low, high = statistics.chance_limits(float(statistics.chance([a], [b])), 5, 5)
        held.append(low <= truth <= high)
    assert 0.91 < np.mean(held) < 0.985
