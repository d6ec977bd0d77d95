"""Both rows learn a real environment from one call: a short run, far above chance, not a benchmark (see results/)."""

import pytest

import estep

SMALL = {"hidden_sizes": (64, 64), "batch_size": 128, "steps": 6_000, "eval_every": 1_000, "eval_episodes": 20}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["sac", pytest.param("iterative-sac", marks=pytest.mark.long)])
def test_pendulum_is_swung_up(algorithm, tmp_path):
    # Untrained policies score about -1,200, and the swing-up alone costs about -150. Of twenty episodes one may fail.
    policy = estep.train(algorithm, "Pendulum-v1", seed=2, out=tmp_path, stop_at=-200.0, **SMALL)
    assert policy.evaluate(20, seed=7).mean > -250
