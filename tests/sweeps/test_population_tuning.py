"""Population based training: members that go on as copies of others, with a trainer that takes milliseconds."""

import json
import sys

import numpy as np
import pytest
import tuned_on_ray
from commandline import command

from estep.errors import RejectedInput
from estep.runs.folder import RUN
from estep.settings.search.spaces import Among, Between, changeable
from estep.sweeps import status
from estep.sweeps.lines import folder_of
from estep.tuning import forking, members
from estep.tuning.rungs import train_to
from estep.tuning.study import Tuned

SPACE = {"learning_rate": Between(1e-4, 1e-2, True), "tau": Between(1e-4, 1e-3), "batch_size": Among((32, 64))}
TUNED = Tuned("sac", ("Pendulum-v1",), (0,), 80, {}, SPACE, "none", "pbt")
GOOD = {"learning_rate": 0.001, "tau": 0.0005, "batch_size": 64}
BAD = {"learning_rate": 0.01, "tau": 0.0005, "batch_size": 32}


def trained(folder, number, values, steps):
    """A member of a population that has made so many steps."""
    part = members.begin(folder, number, TUNED.runs(values))
    train_to(part, steps)
    return part


def test_values_are_explored_within_their_space():
    chance = np.random.default_rng(0)
    found = [members.explored(GOOD, changeable("sac", SPACE), chance) for _ in range(200)]
    assert {one["batch_size"] for one in found} == {64}
    rates = {one["learning_rate"] for one in found}
    assert {0.0008, 0.00125} < rates
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert max(one["tau"] for one in found) <= 1e-3
    assert members.explored({"tau": 1.0}, {"tau": SPACE["tau"]}, chance) == {"tau": 1.0}
    gamma = {"gamma": Among((0.9, 0.99))}
    assert {members.explored({"gamma": 0.9}, gamma, chance)["gamma"] for _ in range(50)} == {0.9, 0.99}


def test_a_member_goes_on_as_a_copy_of_another_one(place):
    good, bad = (trained(place.path, number, values, 20) for number, values in ((0, GOOD), (1, BAD)))
    held = members.hold(place.path, good)
    value = train_to(good, 80)  # the other goes on before the copy is made
    same = members.become(place.path, 1, TUNED, held, GOOD, bad)
    assert same.place.name == "0001-1"
    assert members.done(same) == 20
    assert train_to(same, 80) == value
    starts = [len((folder_of(same.place, run.id) / "starts").read_text().split()) for run in same.runs]
    assert starts == [2]  # one of the other, one of its own
    assert status.of(bad.place, bad.runs[0].id).env_steps == 20
    other = members.become(place.path, 1, TUNED, held, {**GOOD, "learning_rate": 0.002}, same)
    assert (other.place.name, train_to(other, 80) == value) == ("0001-2", False)
    assert members.begin(place.path, 1, ()) == other
    assert members.become(place.path, 1, TUNED, held, {**GOOD, "learning_rate": 0.002}, other) is other
    stages = forking.stages(folder_of(other.place, other.runs[0].id))
    assert [(stage.steps, {name: float(value) for name, value in stage.values.items()}) for stage in stages] == [
        (20, {"learning_rate": 0.001, "tau": 0.0005}),
        (80, {"learning_rate": 0.002, "tau": 0.0005}),
    ]
    members.clear(place.path)
    assert not (place.path / members.HELD).exists()
    assert train_to(other, 90) != value  # its files do not need the copies


def test_a_copy_is_there_whole_or_not_at_all(place, monkeypatch):
    part = trained(place.path, 0, GOOD, 20)
    source = folder_of(part.place, part.runs[0].id)
    with pytest.raises(RejectedInput, match="no setting colour"):
        forking.fork(source, place.path / "a", {"colour": 1}, 40)
    assert not (place.path / "a").exists()
    forking.fork(source, place.path / "a", {}, 40)
    record = json.loads((place.path / "a" / RUN).read_text())
    assert (record["status"], record["forks"][0]["env_steps"]) == ("stopped", 20)
    with pytest.raises(RejectedInput):
        forking.copy(place.path / "nothing", place.path / "b")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "Ray alone"),
        (("--on", "ray", "--trials", "1"), "at least 2"),
        (("--on", "ray", "--space", "batch_size=32,64"), "may change while a run goes on"),
    ],
)
def test_a_population_that_cannot_be_is_refused(place, words, what):
    ended = command("tune", "sac", "--env", "Pendulum-v1", "--scheduler", "pbt", *words, "--out", "a", "--json")
    assert (ended.code, what in ended.record["error"]) == (2, True)


def test_without_ray_the_command_that_installs_it_is_said(place, monkeypatch):
    pytest.importorskip("optuna", reason="Optuna is an extra")
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ("--scheduler", "pbt", "--on", "ray", "--out", str(place.path), "--json")
    ended = command("tune", "sac", "--env", "Pendulum-v1", *words)
    assert (ended.code, "pip install 'estep[ray]'" in ended.record["error"]) == (2, True)


@pytest.mark.long
def test_a_population_under_ray_tune(tmp_path):
    """Trains for real, in processes that Ray starts. The schedule of the best is repeated on fresh seeds."""
    space = ("--space", "learning_rate=1e-4..3e-3,log", "tau=0.002..0.05,log")
    record = tuned_on_ray.tune(tmp_path / "study", "--budget", "640", "--scheduler", "pbt", *space)
    assert set(record["best"]) == {"learning_rate", "tau"}
    forked = list((tmp_path / "study" / "trials").glob("*-*/runs/*/run.json"))
    assert forked
    for path in forked:
        forks = json.loads(path.read_text())["forks"]
        assert all(set(one["after"]) == {"learning_rate", "tau"} for one in forks)
        assert [one["env_steps"] % 80 for one in forks] == [0] * len(forks)
    ends = [
        json.loads(path.read_text())["result"]["env_steps"]
        for path in (tmp_path / "study").glob("fresh/*/runs/*/run.json")
    ]
    assert ends.count(640) == 2
