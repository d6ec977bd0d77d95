"""The Python API: train from one call, act, evaluate, save, load, resume, inspect."""

import copy
import dataclasses
import json
import multiprocessing
import pickle

import gymnasium
import jax
import numpy as np
import pytest
from child import Notes

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


def through_pickle(policy):
    return pickle.loads(pickle.dumps(policy))  # noqa: S301  (it was made here)


def act_of(policy):
    return policy.act([1.0, 0.0, 0.0])


@pytest.mark.long
def test_a_policy_is_pickled_and_copied_with_what_acting_needs(policy):
    obs = np.random.default_rng(1).normal(size=(5, 3))
    for same in (through_pickle(policy), copy.copy(policy), copy.deepcopy(policy)):
        assert (same.act(obs) == policy.act(obs)).all()
        assert (same.env, same.run_dir, same.updates) == (policy.env, policy.run_dir, policy.updates)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(act_of, [policy]) == [act_of(policy)]


def halved(agent):
    """The agent with the parameters of its inference halved."""
    model = jax.tree.map(lambda leaf: leaf / 2, agent.inference.model)
    return dataclasses.replace(agent, inference=dataclasses.replace(agent.inference, model=model))


def test_a_changed_policy_is_pickled_by_its_change_and_never_saved(policy, tmp_path):
    changed = policy.changed(halved)
    same = through_pickle(changed)
    assert act_of(same) == act_of(changed) != act_of(policy)
    with pytest.raises(UsageError, match="changed"):
        pickle.dumps(policy.changed(lambda agent: agent))
    with pytest.raises(UsageError, match="changed"):
        changed.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_an_environment_that_no_other_process_finds_is_left_out_of_a_pickle(policy):
    made = dataclasses.replace(policy, env=lambda: gymnasium.make("Pendulum-v1"))
    assert through_pickle(made).env is None
    assert copy.deepcopy(made).env is made.env


def test_a_policy_is_shown_in_one_line(policy):
    text = repr(policy)
    assert text == f"Policy(iterative-sac on Pendulum-v1, {policy.env_steps} steps, {policy.run_dir})"


WRONG = {
    "episodes as text": (lambda p: p.evaluate("3"), "episodes"),
    "no episodes": (lambda p: p.evaluate(0), "episodes"),
    "half an episode": (lambda p: p.evaluate(2.5), "episodes"),
    "a seed below 0": (lambda p: p.evaluate(1, seed=-1), "seed"),
    "a number as truth": (lambda p: p.evaluate(1, deterministic=1), "deterministic"),
    "no seed": (lambda p: p.act([1.0, 0.0, 0.0], seed=None), "seed"),
    "half a counter": (lambda p: p.act([1.0, 0.0, 0.0], counter=0.5), "counter"),
    "the tuple of reset": (lambda p: p.act((np.zeros(3), {})), "info"),
    "the tuple of step": (lambda p: p.act((np.zeros(3), 0.0, False, False, {})), "info"),
    "no observation": (lambda p: p.act(None), "observation"),
    "words": (lambda p: p.act("left"), "numbers"),
    "ragged": (lambda p: p.act([[1.0, 2.0], [3.0]]), "numbers"),
    "no path": (lambda p: p.save(None), "path"),
    "a misspelt checkpoint": (lambda p: estep.load(p.run_dir, "lastest"), "Did you mean latest"),
    "a checkpoint that is no number": (lambda p: estep.load(p.run_dir, True), "no checkpoint True"),
    "a folder that is none": (lambda p: estep.load(None), "path"),
    "a policy as a folder": (lambda p: estep.resume(p), "run_dir"),
    "steps as text": (lambda p: estep.resume(p.run_dir, steps="400"), "steps"),
    "consent as text": (lambda p: estep.load(p.run_dir, allow_import="yes"), "allow_import"),
}


@pytest.mark.parametrize("call", WRONG)
def test_an_argument_is_refused_by_its_name(policy, call):
    function, match = WRONG[call]
    with pytest.raises(UsageError, match=match):
        function(policy)


def test_arguments_are_taken_as_python_has_them(policy):
    steps = policy.env_steps
    for which in (steps, np.int64(steps), float(steps), str(steps), f"step_{steps}", "latest"):
        assert estep.load(policy.run_dir, which).env_steps == steps
    assert policy.evaluate(np.float64(1.0), seed=np.int32(3)).returns == policy.evaluate(1, seed=3).returns
    assert policy.act([1.0, 0.0, 0.0], seed=np.int64(1), counter=2.0) == policy.act([1.0, 0.0, 0.0], seed=1, counter=2)


def test_a_misspelt_run_folder_is_answered_with_the_nearest(policy):
    with pytest.raises(RejectedInput, match=f"Did you mean {policy.run_dir.parent / 'latest'}"):
        estep.load(policy.run_dir.parent / "lastest")


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
    notes = Notes()
    estep.resume(policy.run_dir, report=notes)
    assert "This run is finished. Give more steps to continue it." in notes.notes  # an argument, where a flag was


def test_an_environment_of_a_module_is_known_to_whoever_lets_it_be_imported(policy, tmp_path):
    recipe = policy.recipe._replace(env="gymnasium:Pendulum-v1")
    saved = dataclasses.replace(policy, recipe=recipe).save(tmp_path / "policy")
    with pytest.raises(UsageError, match="environment of this policy is not known"):
        estep.load(saved).evaluate(1)
    assert len(estep.load(saved, allow_import=True).evaluate(1).returns) == 1


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
    [
        ("sac", {"stepz": 3}, "stepz"),
        ("sacc", {}, "sacc"),
        ("SAC", {}, "Did you mean sac"),
        ("sac", {"gamma": 1.5}, "gamma"),
        ("sac", {"preset": 3}, "preset"),
        ("sac", {"report": 3}, "report"),
        ("sac", {"on_step": 3}, "on_step"),
        (None, {}, "not an algorithm"),
        (estep.RunConfig(), {}, "RunConfig is not an algorithm"),
    ],
)
def test_a_wrong_option_is_refused_by_name(name, options, match, tmp_path):
    with pytest.raises(UsageError, match=match):
        estep.train(name, "Pendulum-v1", out=tmp_path / "runs", **options)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("out", [None, 3])
def test_a_folder_of_runs_that_is_no_path_is_refused(out):
    with pytest.raises(UsageError, match="out"):
        estep.train("sac", "Pendulum-v1", out=out)


@pytest.mark.long
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


@pytest.mark.long
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
