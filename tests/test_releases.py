"""Runs of every earlier release load, act, evaluate, are inspected and go on, as they did in their own release."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commandline import command

import estep
from estep.envs.build import EVAL
from estep.policy.environments import make_env
from estep.policy.job import QUIET
from estep.runs import config_file
from estep.settings import renamed

RELEASES = Path(__file__).parent / "releases"
FOLDERS = sorted(path.parent for path in RELEASES.glob("*/*/run.json"))
RUNS = [path for path in FOLDERS if not path.name.startswith("saved")]
CONFIGS = {
    f"{path.parent.name}-{name}": config
    for path in sorted(RELEASES.glob("*/configs.json"))
    for name, config in json.loads(path.read_text("utf-8")).items()
}


def name_of(path):
    return f"{path.parent.name}-{path.name}"


@pytest.fixture
def copy(request, tmp_path):
    """A copy of a run that may be written to."""
    return shutil.copytree(request.param, tmp_path / "run")


every_folder = pytest.mark.parametrize("copy", FOLDERS, ids=name_of, indirect=True)
every_run = pytest.mark.parametrize("copy", RUNS, ids=name_of, indirect=True)


def test_there_are_runs_of_the_first_release():
    names = {path.name for path in RUNS if path.parent.name == "0.1.0"}
    assert names == {"sac-Pendulum-v1", "iterative-sac-Pendulum-v1", "mpo-Pendulum-v1", "sac-CartPole-v1"}


@every_folder
def test_a_policy_acts_as_it_did(copy):
    recorded = json.loads((copy / "recorded.json").read_text("utf-8"))
    policy, obs = estep.load(copy), np.asarray(recorded["obs"], np.float32)
    np.testing.assert_allclose(policy.act(obs), recorded["mode"], atol=1e-4)
    np.testing.assert_allclose(policy.act(obs, deterministic=False, seed=1, counter=3), recorded["drawn"], atol=1e-4)


@every_folder
def test_it_evaluates_as_it_did(copy):
    recorded = json.loads((copy / "recorded.json").read_text("utf-8"))
    policy = estep.load(copy)
    run = dataclasses.replace(policy.recipe.run, eval_episodes=2)
    found = policy.evaluate_with(make_env(policy.env, run, QUIET, EVAL), run)  # the episodes of before
    assert found.lengths == recorded["lengths"]
    np.testing.assert_allclose(found.returns, recorded["returns"], rtol=1e-2)


@every_run
def test_it_is_inspected(copy):
    ended = command("inspect", str(copy), "--only", "improvement", "--states", "4", "--json")
    assert ended.code == 0, ended.err
    assert (copy / "plots" / "improvement.csv").is_file() or "improvement" in ended.record["not_measured"]


@every_run
def test_it_goes_on(copy):
    ended = command("resume", str(copy), "--steps", "400", "--allow-drift", "--json")
    assert ended.code == 0, ended.err
    assert ended.record["env_steps"] == 400
    assert ended.record["updates"] == 296  # whole blocks of 8 of the 300 that are due
    assert np.isfinite(ended.record["eval_mean"])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_a_configuration_reads_with_every_value_that_it_states(config):
    recipe = config_file.decode(config)
    written = config_file.encode(recipe)
    assert config_file.decode(json.loads(json.dumps(written))) == recipe
    for table in ("algorithm", "run"):
        stated, read = config[table], written[table]
        for name, value in renamed.settings(stated, read).items():
            assert json.loads(json.dumps(read[name])) == value, f"{name} of {table}"
