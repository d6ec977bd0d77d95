"""`estep tune`: search spaces, and a study with a trainer that takes milliseconds."""

import json
import sys
import types

import pytest
import tuned_on_ray
from commandline import command

from estep.cli.sweeping import tune
from estep.errors import EnvironmentFailure, UsageError
from estep.settings import schema
from estep.settings.kinds import plain
from estep.settings.search.spaces import Among, Between, chosen, fields_of, space_of
from estep.sweeps import plan
from estep.tuning import trial as trials
from estep.tuning.rungs import Part, rungs, train_to
from estep.tuning.study import Tuned

STUDY = ("--env", "Pendulum-v1", "--budget", "20", "--seeds", "0..1", "--fresh", "2", "--json")


@pytest.mark.parametrize("algorithm", schema.rows())
def test_every_value_of_a_space_is_a_value_of_its_setting(algorithm):
    fields = fields_of(algorithm)
    space = space_of(algorithm)
    assert space
    for name, where in space.items():
        for value in (where.low, where.high) if isinstance(where, Between) else where.values:
            assert plain(name, fields[name].hint, value) == value


def test_a_space_of_a_users_own():
    found = chosen("sac", {"tau": "0.001..0.1,log", "beta": "0..1", "batch_size": "32,64"})
    assert found == {"tau": Between(0.001, 0.1, True), "beta": Between(0, 1), "batch_size": Among((32, 64))}


@pytest.mark.parametrize(
    ("text", "what"),
    [("tau=0.1..0.001", "is empty"), ("tau=0..2", "tau"), ("taw=1", "tau"), ("beta=0..1,log", "logarithm")],
)
def test_a_space_that_is_wrong_is_refused(text, what):
    with pytest.raises(UsageError) as refused:
        chosen("sac", dict([text.split("=")]))
    assert what in str(refused.value)


def test_spaces_are_shown():
    shown = command("algos", "sac", "--space", "--json").record["spaces"]["sac"]
    assert shown["learning_rate"] == "0.0001 to 0.003, by its logarithm"


def test_the_middle_of_seeds_is_the_interquartile_mean():
    assert trials.iqm([1.0, 5.0]) == 3.0
    assert trials.iqm([-100.0, 2.0, 4.0, 1000.0]) == 3.0
    assert trials.iqm([]) is None


def test_without_optuna_the_command_that_installs_it_is_said(place, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    ended = command("tune", "sac", *STUDY, "--out", str(place.path))
    assert ended.code == 2
    assert "pip install 'estep[tune]'" in ended.record["error"]
    assert not place.path.exists()


def test_a_study_ends_with_the_best_on_fresh_seeds_and_goes_on(place):
    pytest.importorskip("optuna", reason="Optuna is an extra")
    space = ("--space", "learning_rate=0.0001..0.01,log", "beta=0..1")
    ended = command("tune", "sac", *STUDY, *space, "--trials", "3", "--out", str(place.path))
    assert ended.code == 0
    assert set(ended.record["best"]) == {"learning_rate", "beta"}
    assert ended.record["fresh"] is not None
    assert sorted(path.name for path in (place.path / "trials").iterdir()) == ["0000", "0001", "0002"]
    first = json.loads((place.path / "trials" / "0000" / "plan.json").read_text())["runs"][0]
    assert first["settings"] == {"beta": 1.0, "learning_rate": 1e-3, "steps": 20}  # those of the preset
    more = command("tune", "sac", *STUDY, "--trials", "4", "--out", str(place.path))  # in the space of the study
    assert more.code == 0
    assert len(list((place.path / "trials").iterdir())) == 4
    other = command("tune", "sac", *STUDY, "--space", "beta=0..1", "--trials", "4", "--out", str(place.path))
    assert (other.code, "another space" in other.record["error"]) == (2, True)


def test_a_trial_that_was_left_is_gone_on_with(place):
    optuna = pytest.importorskip("optuna", reason="Optuna is an extra")
    space = ("--space", "learning_rate=0.0001..0.01,log")
    command("tune", "sac", *STUDY, *space, "--trials", "1", "--out", str(place.path))
    from estep.tuning import study as studies

    left = studies.opened(place.path, None, 0).ask()
    left.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    command("tune", "sac", *STUDY, *space, "--trials", "2", "--out", str(place.path))
    ends = [one.state for one in studies.opened(place.path, None, 0).get_trials()]
    assert ends == [optuna.trial.TrialState.COMPLETE] * 2


def test_processes_that_share_a_study_choose_other_values(tmp_path):
    pytest.importorskip("optuna", reason="Optuna is an extra")
    from estep.tuning import study as studies

    space, folder = {"tau": Between(0.0, 1.0)}, tmp_path / "study"

    def chosen_by(process):
        return studies.values_of(studies.next_trial(process, folder, 9, range(9)), space)["tau"]

    one, other = (studies.opened(folder, None, 0) for _ in range(2))
    first = [chosen_by(one), chosen_by(other), chosen_by(one), chosen_by(studies.opened(folder, None, 0))]
    assert len(set(first)) == 4
    again = studies.opened(tmp_path / "again", None, 0)
    assert [chosen_by(again) for _ in range(4)] == first


def test_a_trial_that_is_low_is_pruned(tmp_path, monkeypatch):
    optuna = pytest.importorskip("optuna", reason="Optuna is an extra")
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=0.0))
    curves = {"a": {10: 1.0, 20: -3.0, 30: 5.0}, "b": {10: 2.0, 20: -2.0}}
    monkeypatch.setattr(trials, "_curve", lambda path: curves[path.parent.name])
    watch = trials.Watch(study.ask(), tmp_path, ["a", "b"])
    curves["b"].pop(20)
    assert not watch.is_low()
    curves["b"][20] = -2.0
    assert watch.is_low()
    assert watch.low


def test_a_trial_goes_from_rung_to_rung_as_one_run(place):
    runs = [plan.make("sac", ["Pendulum-v1"], seed, {}, "auto", {"steps": 90}) for seed in (0, 1)]
    step_by_step, at_once = (Part(place.path / name, runs) for name in ("steps", "once"))
    values = [train_to(step_by_step, steps) for steps in rungs(90)]
    assert rungs(90) == [10, 30, 90]
    assert values[-1] == train_to(at_once, 90) != values[0]
    started = {path.parent.name: len(path.read_text().split()) for path in place.path.glob("steps/runs/*/starts")}
    assert started == {run.id: 3 for run in runs}
    fails = [plan.make("sac", ["Pendulum-v1"], 0, {}, "auto", {"steps": 90, "gamma": 0.2})]
    with pytest.raises(EnvironmentFailure, match="without a result"):
        train_to(Part(place.path / "fails", fails), 10)


@pytest.mark.parametrize(
    ("scheduler", "budget", "given", "warmup"),
    [
        ("asha", 9_000, {}, 500),  # trials are compared after 1,000 steps, when all would be random
        ("asha", 90_000, {}, None),
        ("pbt", 8_000, {}, 500),
        ("asha", 9_000, {"warmup_steps": 900}, 900),
    ],
)
def test_trials_have_learned_when_they_are_first_compared(scheduler, budget, given, warmup):
    study = Tuned("sac", ("Nobody-v0",), (0,), budget, given, {}, "auto", scheduler)
    assert tune._with_short_warm_up(study).settings.get("warmup_steps") == warmup
    searched = study._replace(settings={}, space={"warmup_steps": Among((1, 2))})
    assert tune._with_short_warm_up(searched) == searched


def test_without_ray_tune_the_command_that_installs_it_is_said(place, monkeypatch):
    pytest.importorskip("optuna", reason="Optuna is an extra")
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    ended = command("tune", "sac", *STUDY, "--on", "ray", "--address", "auto", "--out", str(place.path))
    assert (ended.code, "pip install 'estep[ray-tune]'" in ended.record["error"]) == (2, True)
    assert not place.path.exists()


@pytest.mark.long
def test_a_study_under_ray_tune_stops_trials_at_rungs(tmp_path):
    """Trains for real, in processes that Ray starts."""
    space = ("--space", "learning_rate=1e-4..3e-3,log")
    record = tuned_on_ray.tune(tmp_path / "study", "--budget", "900", "--jobs", "2", *space)
    assert record["fresh"] is not None
    steps = [
        json.loads(path.read_text())["result"]["env_steps"]
        for path in (tmp_path / "study" / "trials").glob("*/runs/*/run.json")
    ]
    assert len(steps) == 4
    assert set(steps) <= {100, 300, 900}
    assert 900 in steps


@pytest.mark.parametrize(
    ("env", "has", "lacks"),
    [("Pendulum-v1", "entropy", "entropy_fraction"), ("CartPole-v1", "entropy_fraction", "entropy")],
)
def test_the_default_space_is_that_of_the_actions(place, env, has, lacks):
    pytest.importorskip("optuna", reason="Optuna is an extra")
    given = ("tune", "sac", "--env", env, "--budget", "20", "--seeds", "0", "--fresh", "0", "--out", str(place.path))
    assert command(*given, "--trials", "1").code == 0
    space = json.loads((place.path / "study.json").read_text())["space"]
    assert has in space
    assert lacks not in space


def test_a_study_goes_on_in_the_space_that_it_began_with(place, monkeypatch):
    pytest.importorskip("optuna", reason="Optuna is an extra")
    given = ("tune", "sac", "--env", "Pendulum-v1", *STUDY[2:], "--out", str(place.path))
    assert command(*given, "--trials", "1").code == 0
    other = command("tune", "vmpo", *given[2:], "--trials", "2")
    assert other.code == 2
    assert "about another" in other.record["error"]
    monkeypatch.setattr(tune.spaces, "space_of", lambda name: {})
    assert command(*given, "--trials", "2").code == 0
