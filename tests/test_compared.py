"""What the comparison of optimisers counts, and which optimisers it takes."""

import jax
import numpy as np
import pytest

from estep.algorithms import SAC, Compose, IterativeSAC
from estep.core.keys import make_key
from estep.core.types import OneHot, Spec
from estep.instruments import landscape, optimisers

SMALL = {"hidden_sizes": (8,)}
CONTINUOUS, DISCRETE = Spec(3, 2), Spec(3, 3, OneHot())


def agent(row, spec=CONTINUOUS):
    return jax.eval_shape(lambda key: row.init(spec, key), make_key(0))


@pytest.mark.parametrize(
    ("row", "name", "cost"),
    [
        (SAC(**SMALL), "direct", (0, 0)),
        (Compose(**SMALL, inference="gradient", iterations=3, samples=4), "own", (12, 12)),
        (Compose(**SMALL, inference="cem", iterations=3, num_candidates=20), "own", (60, 0)),
        (Compose(**SMALL, inference="importance", start="iterative", iterations=2, num_candidates=20), "own", (48, 8)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_own_optimiser_is_named_and_counted_with_its_start(row, name, cost):
    rungs = optimisers.candidates(agent(row))
    own = [rung for rung in rungs if rung.optimiser == name]
    assert [rung[3:] for rung in own] == [cost]
    # ten steps of ten draws on from there
    (further,) = [rung for rung in rungs if (rung.optimiser, rung.iterations) == ("semi-amortised", 10)]
    assert further[3:] == (cost[0] + 100, cost[1] + 100)


@pytest.mark.parametrize("start", [True, False])
def test_a_direct_start_is_compared_too(start):
    rungs = optimisers.candidates(agent(IterativeSAC(**SMALL, direct_start=start)))
    assert ("direct" in {rung.optimiser for rung in rungs}) == start
    assert [rung.iterations for rung in rungs if rung.optimiser == "iterative"] == [1, 2, 4]


def test_choices_are_asked_about_all_at_once_and_have_no_elite():
    rungs = optimisers.candidates(agent(IterativeSAC(**SMALL), DISCRETE))
    assert {rung.optimiser for rung in rungs} == {
        "start",
        "direct",
        "iterative",
        "gradient",
        "semi-amortised",
        "importance",
    }
    costs = {(rung.optimiser, rung.iterations): rung[3:] for rung in rungs}
    assert costs["gradient", 10] == (30, 30)
    assert costs["importance", 3] == (9, 0)
    assert costs["iterative", 4] == (12, 12)
    exact = agent(Compose(**SMALL, posterior="categorical", inference="closed-form", prior="uniform"), DISCRETE)
    assert exact.inference.model.evaluations(3) == (3, 0)


@pytest.mark.long
@pytest.mark.slow
def test_optimisers_climb_over_choices():
    row = IterativeSAC(**SMALL)
    discrete = jax.jit(lambda key: row.init(DISCRETE, key))(make_key(0))
    rungs = [rung for rung in optimisers.candidates(discrete) if rung.iterations in (0, 1, 10, 30)]
    table = optimisers.compare(optimisers.run_candidates(discrete, jax.numpy.eye(3), make_key(1), rungs))
    best = {row.optimiser: row.missing for row in table}
    assert best["importance"] == pytest.approx(0.0, abs=1e-5)  # exact over choices
    assert best["semi-amortised"] < best["iterative"]  # a fresh network
    assert np.isfinite([row.mean for row in table]).all()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("start", [True, False])
def test_the_way_of_iterative_inference_begins_where_it_starts(start):
    row = IterativeSAC(**SMALL, direct_start=start)
    one = jax.jit(lambda key: row.init(CONTINUOUS, key))(make_key(0))
    rungs = [rung for rung in optimisers.candidates(one) if rung.optimiser in ("start", "direct", "iterative")]
    found = optimisers.run_candidates(one, jax.numpy.eye(3), make_key(1), rungs)
    paths = landscape.landscape(one, jax.numpy.eye(3)[1], found, 1, make_key(2), grid=5).paths
    at = {climb.candidate.optimiser: climb.lam[1] for climb in found}
    inference = one.inference.model
    begun = inference.start(one.problem(one.likelihood.model, jax.numpy.eye(3)[1]), one.posterior, make_key(3)).lam
    np.testing.assert_allclose(paths["iterative"][0], np.asarray(begun)[:2], rtol=1e-6)
    assert np.allclose(paths["iterative"][0], at["start"][:2]) != start
