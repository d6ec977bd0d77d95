"""Rows about several tasks on two tasks that have half of their way in common. Long: each test trains."""

from dataclasses import replace

import fork
import jax.numpy as jnp
import numpy as np
import pytest

import estep
from estep.errors import UsageError

pytestmark = pytest.mark.long
TASKS = {"left": fork.left, "right": fork.right}
SHORT = {"warmup_steps": 200, "batch_size": 64, "hidden_sizes": (64, 64), "learning_rate": 1e-3, "report": None}
SHORT |= {"eval_every": 500, "eval_episodes": 2, "checkpoint_every": 0, "replay_size": 5_000, "log_every": 500}


def prior_at(policy, y):
    """The mean action and σ of u of the prior half way between both goals."""
    p = policy.agent.prior.slow.base(jnp.asarray([0.0, y, 1.0, 0.0]))
    return np.tanh(np.asarray(p.mu)), np.exp(np.asarray(p.log_sigma))


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    return estep.train("distral", TASKS, steps=2_500, out=tmp_path_factory.mktemp("fork"), **SHORT)


def test_distral_learns_both_tasks_and_what_they_share(distilled):
    returns = [float(one) for scores in distilled.evaluate(2).tasks.values() for one in scores.returns]
    assert len(returns) == 4
    assert min(returns) >= -16, returns
    mean, sigma = prior_at(distilled, -0.9)
    assert mean[1] > 0.7
    assert sigma[0] > 1.5 * sigma[1]  # wide across, narrow along the shared way


def test_a_frozen_prior_serves_a_new_task(tmp_path):
    first = estep.train("default-policy", TASKS, steps=600, out=tmp_path, **SHORT)
    given = {"steps": 400, "out": tmp_path, **SHORT}
    new = estep.train("default-policy", fork.Fork(0.0), freeze_prior=str(first.run_dir), **given)
    kept = estep.load(first.run_dir).agent.prior.slow.base
    for one, other in zip(*map(leaves, (kept, new.agent.prior.model.base)), strict=True):
        np.testing.assert_array_equal(one, other)
    for changes, said in (({"hidden_sizes": (8,)}, "other sizes"), ({"normalise": True}, "--normalise")):
        with pytest.raises(UsageError, match=said):
            estep.train("default-policy", fork.Fork(0.0), freeze_prior=str(first.run_dir), **{**given, **changes})
    assert replace(first.recipe.algorithm, freeze_prior="x") != first.recipe.algorithm


def leaves(prior):
    """The arrays of a prior's network."""
    net = prior.inner.net
    return [*net.first, *net.rest, *net.biases]
