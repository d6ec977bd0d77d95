"""The Python API: train from one call, act, evaluate, save, load, resume, inspect."""

import json

import gymnasium
import numpy as np
import pytest

import estep
from estep.errors import RejectedInput, UsageError
from estep.instruments import tables
from estep.instruments.inspection import Options, inspect_run
from estep.plots.inference import draw

TINY = {"hidden_sizes": (16, 16), "batch_size": 32, "warmup_steps": 100, "eval_episodes": 2, "preset": "none"}


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return estep.train("iterative-sac", "Pendulum-v1", steps=300, normalise=True, out=out, **TINY)


def test_a_policy_acts_within_the_bounds_of_its_environment(policy):
    one = policy.act([1.0, 0.0, 0.0])
    assert one.shape == (1,)
    assert one.dtype == np.float32
    many = policy.act(np.random.default_rng(0).normal(size=(7, 3)) * 100)
    assert many.shape == (7, 1)
    assert (np.abs(many) <= 2.0).all()


def test_draws_differ_by_counter_and_repeat_by_seed(policy):
    draws = [policy.act([1.0, 0.0, 0.0], deterministic=False, seed=3, counter=c) for c in (0, 1, 0)]
    assert draws[0] != draws[1]
    assert draws[0] == draws[2]


def test_the_deterministic_action_repeats(policy):
    assert policy.act([0.3, 0.1, 0.0]) == policy.act([0.3, 0.1, 0.0])


@pytest.mark.parametrize("obs", [[1.0, 0.0], [[1.0, 0.0]], [np.nan, 0.0, 0.0]])
def test_a_wrong_observation_is_refused(policy, obs):
    with pytest.raises(UsageError):
        policy.act(obs)


def test_a_saved_policy_is_the_same_policy(policy, tmp_path):
    same = estep.load(policy.save(tmp_path / "saved"))
    obs = np.random.default_rng(1).normal(size=(5, 3))
    assert (same.act(obs) == policy.act(obs)).all()
    assert same.evaluate(2).returns == policy.evaluate(2).returns
    assert (same.env_steps, same.updates) == (policy.env_steps, policy.updates)


def test_saving_over_something_is_refused(policy, tmp_path):
    with pytest.raises(UsageError, match="exists"):
        policy.save(tmp_path)


def test_loading_what_is_no_policy_is_refused(tmp_path):
    with pytest.raises(RejectedInput):
        estep.load(tmp_path)


def test_resume_goes_on_with_a_finished_run(policy):
    longer = estep.resume(policy.run_dir, steps=340)
    assert longer.run_dir == policy.run_dir
    assert estep.load(policy.run_dir, "latest").env_steps == 340


def test_a_factory_is_an_environment_too(tmp_path):
    found = estep.train(
        estep.SAC(hidden_sizes=(16, 16)),
        lambda: gymnasium.make("Pendulum-v1"),
        **{"steps": 150, "warmup_steps": 100, "batch_size": 32, "eval_episodes": 1, "out": tmp_path},
    )
    assert len(found.evaluate(1).returns) == 1
    with pytest.raises(UsageError, match="function"):
        estep.load(found.run_dir).evaluate(1)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [("sac", {"stepz": 3}, "stepz"), ("sacc", {}, "sacc"), ("sac", {"gamma": 1.5}, "gamma")],
)
def test_a_wrong_option_is_refused_by_name(name, options, match, tmp_path):
    with pytest.raises(UsageError, match=match):
        estep.train(name, "Pendulum-v1", out=tmp_path / "runs", **options)
    assert not (tmp_path / "runs").exists()


def test_inspect_measures_beyond_the_trained_iterations_and_at_checkpoints(policy, tmp_path):
    found = inspect_run(policy.run_dir, Options(only=("improvement", "calibration"), states=64, episodes=2))
    assert (found.trained_iterations, found.not_measured, found.gap) == (2, {}, None)
    assert [row.iteration for row in found.improvement.curve] == list(range(5))
    assert found.improvement.curve[0].mean == 0
    assert {row.env_steps for row in found.improvement.growth} >= {300}
    assert len(found.calibration.pairs) > 20
    files = tables.write(found, tmp_path / "figures") | draw(found, tmp_path / "figures")
    assert {"improvement.csv", "improvement.png", "calibration_pairs.csv", "calibration.svg"} <= set(files)
    assert all((tmp_path / "figures" / name).stat().st_size for name in files)
    told = json.loads((tmp_path / "figures" / "inspection.json").read_text())
    assert told["improvement"][3]["mean"] == pytest.approx(found.improvement.curve[3].mean)


def test_inspect_says_what_does_not_apply(tmp_path):
    found = estep.train("mpo", "Pendulum-v1", steps=110, out=tmp_path, **TINY, samples=4)
    inspected = inspect_run(found.run_dir, Options(only=("improvement", "gap", "compare", "landscape", "modes")))
    assert set(inspected.not_measured) == {"improvement", "gap", "compare", "landscape", "modes"}
    assert "makes no iterations" in inspected.not_measured["improvement"]
    assert "no λ to optimise" in inspected.not_measured["landscape"]
    assert tables.summary(inspected)["not_measured"] == inspected.not_measured


def test_a_configuration_of_other_sizes_is_refused_by_the_leaf(policy, tmp_path):
    saved = policy.save(tmp_path / "saved")
    config = saved / "config.json"
    record = json.loads(config.read_text())
    record["algorithm"]["hidden_sizes"] = [16, 8]
    config.write_text(json.dumps(record))
    with pytest.raises(RejectedInput, match=r"leaf inference\.model\.net"):
        estep.load(saved)
