"""The page of a comparison: ends, areas and differences by hand, and a page that nothing breaks."""

import numpy as np
import pytest
from report_pages import HOSTILE, Page, data_of
from scipy import stats

from estep.instruments.interval import difference
from estep.plots import comparison, labels, learning_curves
from estep.plots.learning_curves import Point


def points(algorithm, seed, means, every=10, settings="{}"):
    return [
        Point("Some-v0", algorithm, settings, seed, every * (i + 1), i, mean, 0.0, 3) for i, mean in enumerate(means)
    ]


def ends(found):
    curves = learning_curves.curves(found)
    names = labels.labels((row.algorithm, row.settings) for row in curves)
    return {one.name: one for one in comparison.ends_of(found, curves, names)}


def test_a_curve_ends_where_all_its_seeds_are():
    found = [*points("a", 0, [1.0, 2.0, 3.0]), *points("a", 1, [5.0, 7.0]), *points("b", 0, [1.0, 1.0, 4.0])]
    assert ends(found)["a"].returns == [2.0, 7.0]
    assert ends(found)["a"].areas == [1.5, 6.0]
    assert ends(found)["b"].areas == [1.75]


def test_a_seed_that_reached_its_goal_keeps_its_return():
    goal = '{"steps": 40, "stop_at": 5.0}'
    found = [*points("a", 0, [1.0, 6.0], settings=goal), *points("a", 1, [0.0, 0.0, 0.0, 2.0], settings=goal)]
    assert ends(found)["a (steps 40, stop_at 5)" if "a" not in ends(found) else "a"].returns == [6.0, 2.0]


def test_the_interval_of_a_difference_is_that_of_welch():
    rng = np.random.default_rng(0)
    a, b = rng.normal(3.0, 1.0, 7), rng.normal(1.0, 4.0, 12)
    found, want = difference(a, b), stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose([found.low, found.high], [want.low, want.high], rtol=1e-10)
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert np.isnan(difference([1.0], b).low)


def test_the_probability_of_improvement_is_that_of_mann_and_whitney():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 6, 9).astype(float), rng.integers(0, 6, 5).astype(float)
    assert comparison.chance(a, b) == pytest.approx(stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)))


def test_the_page_holds_the_curves_and_nothing_breaks_it(tmp_path):
    found = [*points(HOSTILE, 0, [1.0, float("nan"), 3.0]), *points("b", 0, [1.0, 2.0, 9.0])]
    text = comparison.write(found, learning_curves.curves(found), tmp_path).read_text()
    parsed = Page(text)
    assert not parsed.open
    assert not parsed.handlers
    assert parsed.tags.count("script") == 2
    (series,) = data_of(text)["charts"].values()
    assert [one["curve"] for one in series] == [[[10, 20, 30], [1.0, None, 3.0]], [[10, 20, 30], [1.0, 2.0, 9.0]]]
    assert "cannot be told apart with one seed" in text
    assert "fewer than 5 seeds" in text
