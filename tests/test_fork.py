"""Rows about several tasks on small tasks that have a part of their way in common. Long: each test trains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_tasks import Fork

import estep
from estep.errors import UsageError

pytestmark = pytest.mark.long
TASKS = ["left=quick_tasks:Fork-v0?side=-1", "right=quick_tasks:Fork-v0?side=1"]
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
    new = estep.train("default-policy", Fork(0.0), freeze_prior=str(first.run_dir), **given)
    kept, taken = estep.load(first.run_dir).agent.prior.slow.base.inner, new.agent.prior.model.base
    jax.tree.map(np.testing.assert_array_equal, kept, taken)
    for changes, said in (({"hidden_sizes": (8,)}, "other sizes"), ({"normalise": True}, "--normalise")):
        with pytest.raises(UsageError, match=said):
            estep.train("default-policy", Fork(0.0), freeze_prior=str(first.run_dir), **{**given, **changes})


def test_hierarchical_learns_both_tasks_and_its_lower_level_serves_a_new_one(tmp_path):
    first = estep.train("hierarchical", TASKS, steps=2_500, out=tmp_path, **SHORT)
    assert first.evaluate(2).mean > -25
    given = {"steps": 400, "out": tmp_path, **SHORT}
    new = estep.train("hierarchical", Fork(0.0), freeze_low=str(first.run_dir), **given)
    kept, taken = (run.agent.inference for run in (estep.load(first.run_dir), new))
    jax.tree.map(np.testing.assert_array_equal, kept.target.bottom.net, taken.model.bottom.net)


def test_distral_learns_a_pole_and_its_mirror_image(tmp_path):
    """What the tasks share is little: over actions the prior has no side, while each policy has one."""
    tasks = ["plain=CartPole-v1", "mirrored=quick_tasks:MirroredCartPole-v0"]
    policy = estep.train("distral", tasks, steps=8_000, out=tmp_path, **SHORT | {"eval_every": 2_000})
    for scores in policy.evaluate(5).tasks.values():
        assert scores.mean > 100
