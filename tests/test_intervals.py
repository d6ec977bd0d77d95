"""How often each interval that is drawn or printed contains the truth: 93 to 97 % of many made-up experiments.

docs/intervals.md has these numbers, those of skewed data, and why other intervals were not taken.
"""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from estep.instruments import interval as intervals
from estep.instruments.interval import (
    interval,
    interval_of_clusters,
    interval_of_moments,
    middle,
    over_tasks,
    trimmed_mean,
)

PAGE = (Path(__file__).parents[1] / "docs/intervals.md").read_text()
EXPERIMENTS = 2000
NORMAL = lambda random, shape: random.normal(3.0, 2.0, shape)
SKEWED = lambda random, shape: random.lognormal(0.0, 1.0, shape)


def moments(values):
    return interval_of_moments(values.mean(), values.std(), len(values))


def tasks(values):
    """Three tasks: one has twice the spread of the others, and another a third of the seeds."""
    return over_tasks([values[0], 2.0 * values[1], values[2][: max(2, len(values[2]) // 3)]])


def truth_of_tasks(count):
    few = max(2, count // 3)
    return 3.0 * (count + 2.0 * count + few) / (2 * count + few)


def coverage(method, samples, truth):
    found = [method(sample) for sample in samples]
    return float(np.mean([low <= truth <= high for _, low, high in found]))


def skewed_truth(method, count):
    """The mean, or the interquartile mean, of what the seeds come from."""
    if method is middle and count >= intervals.MANY:
        inside = stats.lognorm(1.0).ppf([0.25, 0.75])
        return float(stats.lognorm(1.0).expect(lambda x: x, lb=inside[0], ub=inside[1]) / 0.5)
    return float(np.exp(0.5))


@pytest.mark.parametrize("count", [3, 5, 10, 20])
@pytest.mark.parametrize("method", [interval, moments, middle], ids=["interval", "moments", "middle"])
def test_an_interval_contains_the_mean_of_normal_numbers_in_95_of_100_experiments(method, count):
    samples = NORMAL(np.random.default_rng(1), (EXPERIMENTS, count))
    assert 0.93 <= coverage(method, samples, 3.0) <= 0.97


@pytest.mark.parametrize("count", [3, 5, 10, 20])
def test_an_interval_over_tasks_contains_their_mean_in_95_of_100_experiments(count):
    samples = NORMAL(np.random.default_rng(1), (EXPERIMENTS, 3, count))
    assert 0.93 <= coverage(tasks, samples, truth_of_tasks(count)) <= 0.97


def clustered(random, clusters, shared):
    """256 numbers in clusters of unequal size, and the clusters. This share of their variance is between clusters."""
    sizes = random.multinomial(256, random.dirichlet(np.full(clusters, 20.0)))
    labels = np.repeat(np.arange(clusters), sizes)
    common, own = random.normal(size=clusters), random.normal(size=len(labels))
    return 3.0 + 2.0 * (np.sqrt(shared) * common[labels] + np.sqrt(1.0 - shared) * own), labels


def coverage_of_clusters(method, clusters, shared):
    random = np.random.default_rng(1)
    found = [method(*clustered(random, clusters, shared)) for _ in range(EXPERIMENTS)]
    return float(np.mean([low <= 3.0 <= high for _, low, high in found]))


@pytest.mark.parametrize("clusters", [8, 16, 32])
@pytest.mark.parametrize("shared", [0.0, 0.3])
def test_an_interval_over_clusters_contains_the_mean_in_95_of_100_experiments(clusters, shared):
    assert 0.93 <= coverage_of_clusters(interval_of_clusters, clusters, shared) <= 0.97


def test_states_of_few_episodes_as_independent_numbers_would_have_too_narrow_an_interval():
    assert coverage_of_clusters(lambda values, labels: interval(values), 8, 0.1) < 0.8


def test_an_interval_over_clusters_of_one_number_is_that_of_independent_numbers():
    values = [1.0, 2.0, 4.0, 8.0]
    np.testing.assert_allclose(interval_of_clusters(values, [3, 1, 2, 0]), interval(values), rtol=1e-12)
    assert np.isnan(interval_of_clusters(values, [0, 0, 0, 0])[1:]).all()


def test_a_trimmed_mean_ignores_the_ends():
    assert trimmed_mean([*range(1, 10), 1000.0]) == 5.5
    assert trimmed_mean([1.0, 2.0, 6.0]) == 3.0


def test_the_page_has_the_coverage_that_is_measured():
    """Also for skewed data. `python tests/test_intervals.py` prints the table."""
    assert table() in PAGE


def table():
    lines = [
        "| seeds | one task | one task, skewed | three tasks |",
        "|---|---|---|---|",
    ]
    for count in (3, 5, 10, 20):
        random = np.random.default_rng(2)
        normal, skewed = (draw(random, (EXPERIMENTS, count)) for draw in (NORMAL, SKEWED))
        several = NORMAL(random, (EXPERIMENTS, 3, count))
        cells = (
            coverage(middle, normal, 3.0),
            coverage(middle, skewed, skewed_truth(middle, count)),
            coverage(tasks, several, truth_of_tasks(count)),
        )
        lines.append(f"| {count} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    return "\n".join(lines)


def test_an_interval_of_one_number_has_no_limits_and_one_of_equal_numbers_no_width():
    for found in (interval([2.0]), middle([2.0]), moments(np.array([2.0])), over_tasks([[2.0], [2.0, 2.0]])):
        assert found.mean == 2.0
        assert np.isnan(found[1:]).all()
    for found in (interval([7.0] * 3), middle([7.0] * 12), over_tasks([[7.0] * 3, [7.0] * 2])):
        assert found == (7.0, 7.0, 7.0)


def test_from_ten_seeds_on_an_outlier_does_not_move_the_middle():
    seeds = [*range(9), 1000.0]
    assert middle(seeds[:9]).mean == 4.0
    assert middle(seeds) == middle([*range(9), 9.0])
    assert middle(seeds).mean == 4.5


def test_over_one_task_is_the_interval_of_its_numbers():
    values = [1.0, 2.0, 4.0, 8.0]
    np.testing.assert_allclose(over_tasks([values]), interval(values), rtol=1e-12)
    np.testing.assert_allclose(moments(np.asarray(values)), interval(values), rtol=1e-12)


if __name__ == "__main__":
    print(table())
