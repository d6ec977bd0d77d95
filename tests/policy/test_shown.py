"""What a policy shows of its run, and where it points those who look for the names of other libraries."""

import copy
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import estep

RUN = Path(__file__).parents[1] / "releases" / "0.2.0" / "sac-Pendulum-v1"


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return estep.load(shutil.copytree(RUN, tmp_path_factory.mktemp("runs") / "run"))


def test_the_history_is_what_the_files_of_the_run_say(policy):
    lines = (policy.run_dir / "eval.csv").read_text("utf-8").splitlines()
    evaluations = policy.history.evaluations
    assert list(evaluations) == lines[0].split(",")
    assert evaluations["env_steps"].tolist() == [float(line.split(",")[0]) for line in lines[1:]]
    metrics = policy.history.metrics
    assert {len(values) for values in metrics.values()} == {len(metrics["env_steps"])}
    assert metrics["env_steps"].dtype == np.float64


def test_a_saved_policy_has_no_history(policy, tmp_path):
    saved = estep.load(policy.save(tmp_path / "saved"))
    assert saved.history == ({}, {})


def test_a_notebook_shows_the_head_of_the_report(policy):
    text = policy._repr_html_()
    assert text.startswith("<div")
    assert "sac on Pendulum-v1" in text
    assert "<polyline" in text
    assert "<script" not in text


@pytest.mark.parametrize(
    ("name", "ours"),
    [("predict", "policy.act(observation)"), ("learn", "estep.resume"), ("load", "estep.load(path)"), ("nothing", "")],
)
def test_names_of_other_libraries_point_to_ours(name, ours, policy):
    with pytest.raises(AttributeError, match=f"A policy has no {name}") as caught:
        getattr(policy, name)
    assert ours in str(caught.value)
    assert not hasattr(policy, name)


def test_a_policy_is_copied_and_pickled_as_before(policy):
    obs = [1.0, 0.0, 0.5]
    for other in (copy.copy(policy), copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):  # noqa: S301
        assert (other.act(obs) == policy.act(obs)).all()
