"""Populations on the command line: exit codes and what is printed."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from commandline import command
from several import PURE

from estep.envs.pure import mjx
from estep.plots import views


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5"])
def test_a_number_of_seeds_that_is_none_is_refused(value):
    ended = command("train", "sac", "--env", PURE, "--population", value)
    assert ended.code == 2
    assert "population" in ended.err


def test_an_unknown_id_names_the_nearest():
    ended = command("train", "sac", "--env", "pure/Pendulum", "--population", "2")
    assert ended.code == 2
    assert "Did you mean pure/Pendulum-v1?" in ended.err


def test_stop_at_is_refused():
    assert command("train", "sac", "--env", PURE, "--population", "2", "--stop-at", "1").code == 2


def test_more_than_memory_holds_is_refused_before_anything_is_made(tmp_path):
    ended = command("train", "sac", "--env", PURE, "--population", "4000000", "--replay-size", "1000000")
    assert ended.code == 2
    assert "Give --population at most" in ended.err
    assert not list(tmp_path.iterdir())


def test_every_seed_is_evaluated(whole):
    run = str(whole[0])
    ended = command("eval", run, "--episodes", "2", "--json")
    assert ended.code == 0, ended.err
    assert [one["member"] for one in ended.record["members"]] == [0, 1, 2]
    assert all(len(one["returns"]) == 2 for one in ended.record["members"])
    for member in ("3", "-1"):
        ended = command("eval", run, "--member", member)
        assert (ended.code, "from 0 to 2" in ended.err) == (2, True)


def test_a_population_ends_with_its_curves_and_its_report(whole, tmp_path):
    run = Path(shutil.copytree(whole[0], tmp_path / "run"))
    lines = []
    views.write_if_possible(run, lines.append)
    assert lines == [f"wrote    {run / name}" for name in ("learning_curve.png", "learning_curve.svg", "report.html")]
    (run / "members/0001/eval.csv").unlink()
    views.write_if_possible(run, lines.append)
    assert lines[3].startswith("note     no learning curve was drawn: ")


@pytest.mark.long
def test_a_member_is_evaluated_and_inspected_alone(whole):
    run = str(whole[0])
    one = command("eval", run, "--episodes", "2", "--member", "1", "--json")
    assert one.code == 0, one.err
    assert len(one.record["returns"]) == 2
    assert one.record["env_steps"] in (70, 140, 160)
    seen = command("inspect", run, "--member", "1", "--only", "landscape", "--states", "2", "--json")
    assert seen.code == 0, seen.err
    assert list((whole[0] / "members/0001/plots").iterdir())


@pytest.mark.long
def test_all_seeds_are_inspected_without_a_number(whole):
    seen = command("inspect", str(whole[0]), "--only", "calibration", "--episodes", "2", "--json")
    assert seen.code == 0, seen.err
    assert [Path(seed) for seed in seen.record["runs"]] == [whole[0] / f"members/000{i}" for i in range(3)]
    (over,) = seen.record["over_seeds"]
    assert (over["quantity"], over["seeds"]) == ("over-estimation", 3)
    assert over["low"] < over["mean"] < over["high"]
    ended = command("inspect", str(whole[0]), "--out", "plots")
    assert (ended.code, "--out is for one run, and 3 are given." in ended.err) == (2, True)


def test_commands_for_one_run_ask_for_the_member(whole):
    run = str(whole[0])
    ended = command("export", run)
    assert (ended.code, "--member 0" in ended.err) == (2, True)
    assert command("resume", run, "--population", "4").code == 2
    assert command("verify", run).code == 0
    again = command("resume", run, "--json")
    assert (again.code, again.record["status"]) == (0, "done")


def test_split_writes_a_run_for_each_seed(whole, tmp_path):
    ended = command("split", str(whole[0]), "--out", str(tmp_path / "alone"), "--json")
    assert ended.code == 0, ended.err
    runs = ended.record["runs"]
    assert len(runs) == 3
    for i, path in enumerate(runs):
        settings = json.loads((Path(path) / "config.json").read_text())["run"]
        assert (settings["seed"], settings["population"]) == (5 + i, None)
        assert command("verify", path).code == 0
        assert command("eval", path, "--member", "0").code == 2


def test_several_environments_are_refused_before_anything_is_made(tmp_path):
    ended = command("train", "sac", "--env", PURE, "Pendulum-v1", "--population", "2")
    assert ended.code == 2
    assert "A population has one environment, but 2 are given: Pendulum-v1+pure/Pendulum-v1." in ended.err
    assert not list(tmp_path.iterdir())


def test_a_frozen_prior_is_refused(tmp_path):
    ended = command("train", "default-policy", "--env", PURE, "--freeze-prior", "run", "--population", "2")
    assert ended.code == 2
    assert "--freeze-prior takes that of one run" in ended.err
    assert not list(tmp_path.iterdir())


def test_a_factor_of_rewards_for_each_task_is_refused():
    ended = command("train", "sac", "--env", PURE, "--population", "2", "--reward-scale", "1", "2")
    assert ended.code == 2
    assert "--reward-scale has 2 factors, but a population has one environment." in ended.err


def test_there_is_no_task_to_choose(whole):
    ended = command("eval", str(whole[0]), "--task", "run")
    assert (ended.code, "This run has no task 'run': it has one environment." in ended.err) == (2, True)
    ended = command("resume", str(whole[0]), "--env", PURE, "Pendulum-v1")
    assert (ended.code, "This run has the environment pure/Pendulum-v1" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ("mjx:Ant-v5", "Ant-v5 cannot be exact on the device: its observation and its reward have the forces"),
        ("mjx:Walker-v5", "Did you mean mjx/Walker2d-v5?"),
        ("mjy:Hopper-v5", "Did you mean mjx/Hopper-v5?"),
    ],
)
def test_tasks_on_the_device_that_there_are_not(env, said):
    ended = command("train", "sac", "--env", env, "--population", "2")
    assert ended.code == 2
    assert said in ended.err


def test_mjx_that_is_not_installed_is_named(monkeypatch):
    mjx.make.cache_clear()
    monkeypatch.setitem(sys.modules, "mujoco.mjx", None)
    monkeypatch.delattr("mujoco.mjx", raising=False)
    ended = command("train", "sac", "--env", "mjx:Swimmer-v5", "--population", "2")
    assert ended.code == 2
    assert "Run pip install estep[mjx]" in ended.err


IMPURE = """
import jax, jax.numpy as jnp
from estep import PureEnv, Spec
from estep.envs.pure.adapter import register

calls = []

def observe(state):
    calls.append(0)
    return state[None] + len(calls)

register(PureEnv("Impure-v0", Spec(1, 1), lambda key: jax.random.normal(key), observe,
                 lambda state, action: (state, state, state > 9.0), 5))
"""


def test_an_environment_of_ones_own_that_is_not_pure_ends_with_its_own_code(tmp_path):
    (tmp_path / "own_impure.py").write_text(IMPURE)
    ended = command("train", "sac", "--env", "own_impure:Impure-v0", "--population", "2")
    assert (ended.code, "Impure-v0: observe is not a pure function" in ended.err) == (5, True)
