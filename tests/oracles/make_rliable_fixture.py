"""Writes rliable.json: statistics of made-up scores by rliable 1.2.0 (Agarwal et al. 2021).

rliable needs packages that estep does not. To make the file again:

    python -m venv rliable && rliable/bin/pip install "rliable==1.2.0" "pandas<3"
    rliable/bin/python -P tests/oracles/make_rliable_fixture.py

Some scores are equal, some are above 1, and one task has the same scores for both groups. The limits of the intervals
are of 50,000 resamples.
"""

import json
from pathlib import Path

import numpy as np
from rliable import library, metrics

TASKS = 6
AGGREGATES = {
    "interquartile_mean": metrics.aggregate_iqm,
    "mean": metrics.aggregate_mean,
    "median": metrics.aggregate_median,
    "optimality_gap": metrics.aggregate_optimality_gap,
}


def groups() -> dict[str, np.ndarray]:
    """Scores of two groups with 7 and 10 seeds on 6 tasks, as [seeds, tasks]."""
    rng = np.random.default_rng(7)
    centres = rng.uniform(0.2, 1.2, TASKS)
    first = centres + rng.normal(0.1, 0.3, (7, TASKS))
    second = centres + rng.normal(0.0, 0.4, (10, TASKS))
    first[:, 2], second[:, 2] = np.round(first[:, 2], 1), np.round(second[:, 2], 1)
    return {"first": first, "second": second}


def main() -> None:
    scores = groups()
    equal = {name: of[:7].copy() for name, of in scores.items()}
    equal["second"][:, 4] = equal["first"][:, 4]
    places = np.linspace(-0.5, 2.0, 26)
    pair = scores["first"], scores["second"]
    state = np.random.RandomState(0)
    np.random.seed(0)  # noqa: NPY002 (rliable resamples with it)
    _, limits = library.get_interval_estimates(
        {"first": scores["first"]}, lambda of: np.array([f(of) for f in AGGREGATES.values()]), random_state=state
    )
    _, chance = library.get_interval_estimates(
        {"pair": pair}, lambda a, b: np.array([metrics.probability_of_improvement(a, b)]), reps=2000, random_state=state
    )
    found = {
        "scores": {name: of.T.tolist() for name, of in scores.items()},
        "aggregates": {kind: {name: float(f(of)) for name, of in scores.items()} for kind, f in AGGREGATES.items()},
        "places": places.tolist(),
        "profile": {name: library.score_distributions(of, places).tolist() for name, of in scores.items()},
        "chance": float(metrics.probability_of_improvement(*pair)),
        "equal": {name: of.T.tolist() for name, of in equal.items()},
        "chance_equal": float(metrics.probability_of_improvement(equal["first"], equal["second"])),
        "limits": dict(zip(AGGREGATES, limits["first"].T.tolist(), strict=True)),
        "chance_limits": chance["pair"][:, 0].tolist(),
    }
    Path(__file__).with_name("rliable.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
