"""The plan of a sweep: stable ids, extension, and a file that is read strictly."""

import json

import pytest

from estep.cli.sweeping import given as reader
from estep.cli.sweeping.given import Given, product
from estep.errors import RejectedInput, UsageError
from estep.sweeps import plan
from estep.sweeps.lines import Consent, Task, flag
from estep.sweeps.plan import extend, make


def asked(**changes):
    """The runs of a sweep of sac on Pendulum-v1."""
    base = Given(["sac"], ["Pendulum-v1"], "0..1", "auto", {}, {})
    return tuple(product(base._replace(**changes)).runs())


def test_every_combination_is_a_run_with_an_id_of_its_own():
    runs = asked(algorithms=["sac", "mpo"], envs=["Pendulum-v1", "CartPole-v1"], grid={"gamma": ["0.9", "0.99"]})
    assert len(runs) == len({run.id for run in runs}) == 2 * 2 * 2 * 2
    assert {run.seed for run in runs} == {0, 1}
    assert {(run.algorithm, run.env, run.values["gamma"]) for run in runs} == {
        (algorithm, (env,), gamma)
        for algorithm in ("sac", "mpo")
        for env in ("Pendulum-v1", "CartPole-v1")
        for gamma in (0.9, 0.99)
    }


def test_an_id_never_changes():
    """Folders of sweeps have these names, so another one would train them again."""
    assert make("sac", ["Pendulum-v1"], 0, {}, "auto", {"gamma": 0.9}).id == "sac-Pendulum-v1-s0-c94ffabf"
    assert make("sac", ["Pendulum-v1"], 0, {"gamma": 0.9}, "none", {}).id == "sac-Pendulum-v1-s0-b0e11efa"
    pair = [make("sac", [env], 0, {}, "auto", {}).id for env in ("A-v0?x=1", "A-v0?x=-1")]
    assert pair[0] != pair[1]


def test_a_setting_of_one_algorithm_is_of_that_one_alone():
    runs = asked(algorithms=["sac", "mpo"], settings={"sac.beta": "0.5", "steps": "100"}, seeds="3")
    assert [run.settings for run in runs] == [{"beta": 0.5, "steps": 100}, {"steps": 100}]


def test_a_list_a_truth_and_none_are_written_as_for_their_flags():
    settings = {"hidden_sizes": "8 8", "normalise": "true", "stop_at": "None"}
    (run,) = asked(settings=settings, seeds="0")
    assert run.settings == {"hidden_sizes": [8, 8], "normalise": True, "stop_at": None}
    words = [word for name, value in run.settings.items() for word in flag(name, value)]
    assert words == ["--hidden-sizes", "8", "8", "--normalise", "--stop-at=None"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"seeds": "4..0"}, "which is empty"),
        ({"seeds": ""}, "is no seed"),
        ({"seeds": "0..x"}, "is no seed"),
        ({"seeds": "-1"}, "is no seed"),
        ({"seeds": "0,0"}, "names a seed twice"),
        ({"seeds": "0..4294967296"}, "is no seed"),
        ({"seeds": "0..4000000000"}, "more than 100,000"),
        ({"grid": {"gamma": [""]}}, "is empty"),
        ({"grid": {"gamma": []}}, "is empty"),
        ({"grid": {"gamma": ["0.9", "0.90"]}}, "a value twice"),
        ({"grid": {"gamma": ["2"]}}, "gamma is 2.0"),
        ({"grid": {"gamma": ["x"]}}, "gamma"),
        ({"grid": {"gama": ["0.9"]}}, "'gama'.\nDid you mean gamma?"),
        ({"settings": {"seed": "1"}}, "Give seeds"),
        ({"settings": {"mpo.beta": "1"}}, "algorithm of this sweep"),
        ({"settings": {"gamma": "0.9"}, "grid": {"gamma": ["0.9"]}}, "by set and several by grid"),
        ({"settings": {"population": "2", "stop_at": "3"}}, "stop_at"),
        ({"preset": "pendulum"}, "preset"),
        ({"algorithms": ["sacc"]}, "Did you mean sac?"),
        ({"algorithms": ["sac", "sac"]}, "given twice"),
        ({"envs": ["Pendulum-v11"]}, "Pendulum-v1"),
        ({"envs": []}, "No environment"),
        ({"algorithms": []}, "No algorithm"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(changes, what):
    with pytest.raises(UsageError) as refused:
        asked(**changes)
    assert what in str(refused.value)


def test_a_plan_is_extended_by_seeds_and_values():
    old = asked()
    new = extend(old, asked(seeds="0..2", grid={}), lambda run: True)
    assert new[:2] == old
    assert [run.seed for run in new] == [0, 1, 2]
    assert len(extend(new, asked(grid={"gamma": ["0.9"]}), lambda run: True)) == 5


def test_a_run_that_has_begun_keeps_its_settings():
    old, changed = asked(), asked(settings={"tau": "0.5"})
    with pytest.raises(UsageError, match=r"tau is 0.005 there and 0.5 here"):
        extend(old, changed, lambda run: run.seed == 1)
    assert extend(old, changed, lambda run: False) == changed
    same = asked(settings={"tau": "0.005"})  # the default, said
    assert extend(old, same, lambda run: True) == old


def test_a_run_that_has_begun_takes_more_steps_and_nothing_else():
    old, longer = asked(settings={"steps": "100"}), asked(settings={"steps": "300"})
    assert extend(old, longer, lambda run: True) == longer
    for settings in ({"steps": "50"}, {"steps": "300", "tau": "0.5"}):
        with pytest.raises(UsageError, match="has begun with other settings"):
            extend(old, asked(settings=settings), lambda run: True)


def test_a_plan_is_read_as_it_was_written(tmp_path):
    runs = asked(grid={"hidden_sizes": ["8 8", "16"]}, settings={"stop_at": "None"})
    plan.write(tmp_path, runs)
    assert plan.read(tmp_path) == runs


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(format=2),
        lambda content: content.update(more=1),
        lambda content: content["runs"][0].update(seed=7),
        lambda content: content["runs"][0].update(seed=-1),
        lambda content: content["runs"][0].update(id="../../etc"),
        lambda content: content["runs"][0].pop("env"),
        lambda content: content["runs"].append(content["runs"][0]),
        lambda content: content["runs"][0].update(env=[]),
        lambda content: content["runs"][0]["settings"].update({"run-dir": "/"}),
        lambda content: content["runs"][0]["settings"].update({"run_dir": "/"}),
        lambda content: content["runs"][0].update(algorithm="--help"),
    ],
)
def test_a_plan_that_was_changed_by_hand_is_refused(tmp_path, change):
    plan.write(tmp_path, asked())
    content = json.loads((tmp_path / plan.PLAN).read_text())
    change(content)
    (tmp_path / plan.PLAN).write_text(json.dumps(content))
    with pytest.raises(RejectedInput):
        plan.read(tmp_path)


def test_modules_that_a_plan_imports_are_named():
    runs = [
        make("mine:Algorithm", ["yours:Id-v0"], 0, {"features": "theirs:network"}, "auto", {"prior": "ours:prior"}),
        make("sac", ["Pendulum-v1"], 0, {}, "auto", {"inference": "direct"}),
    ]
    assert sorted(plan.imports(runs)) == ["mine", "ours", "theirs", "yours"]


def test_the_line_of_a_run_begins_it_or_goes_on(tmp_path):
    (run,) = asked(seeds="3", settings={"gamma": "0.9"})
    task = Task(tmp_path, run, Consent(allow_drift=True))
    folder = str(tmp_path / "runs" / run.id)
    head = ["train", "sac", "--env", "Pendulum-v1", "--preset", "auto", "--seed", "3"]
    assert task.words()[3:] == [*head, "--gamma=0.9", "--run-dir", folder, "--json"]
    task.folder.mkdir(parents=True)
    (task.folder / "run.json").write_text("{}")
    assert task.words()[3:] == ["resume", folder, "--allow-drift", "--json"]


def test_a_file_says_what_the_command_line_says(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(
        'algorithms = ["sac"]\nenv = "Pendulum-v1"\nseeds = [0, 1]\n[set]\nsteps = 100\nnormalise = true\n'
        "[set.sac]\nhidden_sizes = [8, 8]\n[grid]\ngamma = [0.9, 0.99]\n"
    )
    settings = {"steps": "100", "normalise": "true", "sac.hidden_sizes": "8 8"}
    line = asked(settings=settings, grid={"gamma": ["0.9", "0.99"]})
    assert tuple(product(reader.read_file(path)).runs()) == line


@pytest.mark.parametrize("text", ["seed = 1", "grid = 3", "[grid]\ngamma = 0.9", "= 1", "algorithms"])
def test_a_file_that_is_malformed_is_refused(tmp_path, text):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(UsageError):
        reader.read_file(tmp_path / "a.toml")
