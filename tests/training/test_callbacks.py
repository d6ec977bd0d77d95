"""Functions of the caller that follow a run, and the success that an environment tells in its info."""

import csv
import json

import gymnasium
import numpy as np
import pytest
from child import Notes, config, leaves, resume

import estep
from estep.algorithms import SAC
from estep.envs.validation import read_success
from estep.policy.job import RunContext, never_stop
from estep.runs import checkpoint
from estep.training import run

ROW = SAC(hidden_sizes=(16, 16))


class Told(gymnasium.Wrapper):
    """Pendulum in episodes of 20 steps, of which every second one is successful at its fifth step."""

    def __init__(self):
        super().__init__(gymnasium.make("Pendulum-v1", max_episode_steps=20))
        self.episodes = 0

    def reset(self, **options):
        self.episodes, self.steps = self.episodes + 1, 0
        return self.env.reset(**options)

    def step(self, action):
        self.steps += 1
        *rest, info = self.env.step(action)
        return *rest, {**info, "success": np.float64(self.steps == 5 and self.episodes % 2 == 1)}


def train(out, on_step=None, on_evaluation=None, env=Told, **changes):
    notes = Notes()
    context = RunContext(("test",), notes, never_stop, print, on_step, on_evaluation)
    return run.train(ROW, env, config(**changes), out=out, preset=None, context=context), notes


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A whole run that functions follow: what each of them saw."""
    steps, evaluations = [], []
    answer = lambda seen: lambda state: seen.append((state, state.policy() if state.env_steps == 60 else None))
    result, notes = train(tmp_path_factory.mktemp("runs"), answer(steps), answer(evaluations))
    return result, notes, steps, evaluations


def test_on_step_follows_every_step_and_on_evaluation_every_evaluation(followed):
    result, _, steps, evaluations = followed
    assert [state.env_steps for state, _ in steps] == list(range(1, 121))
    assert {(state.steps, state.evaluation, state.run_dir) for state, _ in steps} == {(120, None, result.run_dir)}
    assert [state.env_steps for state, _ in evaluations] == [60, 120]
    assert evaluations[-1][0].evaluation.mean == result.eval_mean
    state = steps[-1][0]
    assert {"return", "success", "m/alpha"} <= set(state.metrics)
    with pytest.raises(TypeError):
        state.metrics["return"] = 0.0


def test_the_policy_of_a_moment_stays_that_policy(followed):
    result, _, steps, evaluations = followed
    obs = np.random.default_rng(0).normal(size=(4, 3))
    then, same = steps[59][1], evaluations[0][1]
    assert (then.env_steps, then.env) == (60, Told)
    assert (then.act(obs) == same.act(obs)).all()
    assert (then.act(obs) == estep.load(result.run_dir, 60).act(obs)).all()
    assert (then.act(obs) != estep.load(result.run_dir, 120).act(obs)).any()


def test_functions_that_only_look_on_change_nothing(followed, tmp_path):
    plain, _ = train(tmp_path)
    np.testing.assert_equal(leaves(plain.run_dir), leaves(followed[0].run_dir))


def test_success_is_in_logs_and_evaluations(followed):
    result, notes, *_ = followed
    finished = table(result.run_dir / "episodes.csv")
    assert [float(row["success"]) for row in finished] == [1, 0, 1, 0, 1, 0]
    evaluated = [float(row["success"]) for row in table(result.run_dir / "eval.csv")]
    assert len(evaluated) == 2
    assert set(evaluated) <= {0.0, 0.5, 1.0}  # of two episodes
    lines = [json.loads(line) for line in (result.run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["success"] for line in lines] == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2, 3 / 5, 1 / 2])
    assert all(notes.said(f"over 2 episodes, success {share:.0%}") for share in evaluated)
    assert estep.load(result.run_dir).evaluate(1, env=Told).success in (0.0, 1.0)


@pytest.mark.parametrize("stop", [True, np.True_])
def test_a_function_stops_a_run_which_can_be_resumed(stop, tmp_path):
    result, _ = train(tmp_path, lambda state: stop if state.env_steps >= 45 else state.env_steps)
    assert (result.status, result.env_steps) == ("stopped", 45)
    assert json.loads((result.run_dir / "run.json").read_text())["status"] == "stopped"
    assert resume(result.run_dir, env=Told, steps=48).status == "done"


def test_a_run_stops_after_an_evaluation(tmp_path):
    result, _ = train(tmp_path, on_evaluation=lambda state: state.evaluation.mean > -1e9)
    assert (result.status, result.env_steps) == ("stopped", 60)


@pytest.mark.parametrize("which", ["on_step", "on_evaluation"])
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_function_that_raises_ends_the_run_after_it_is_saved(which, error, tmp_path):
    def fail(state):
        if state.env_steps == 60:
            raise error

    with pytest.raises(error):
        train(tmp_path, **{which: fail})
    (folder,) = (path.parent for path in tmp_path.rglob("run.json"))
    assert checkpoint.newest(folder)[0].name == "step_60"


def test_a_run_of_before_goes_on_without_the_new_columns(tmp_path):
    result, _ = train(tmp_path, lambda state: state.env_steps >= 80)
    for name in ("eval.csv", "episodes.csv"):
        path = result.run_dir / name
        path.write_text("".join(line.rpartition(",")[0] + "\n" for line in path.read_text().splitlines()))
    assert resume(result.run_dir, env=Told).status == "done"
    assert "success" not in table(result.run_dir / "eval.csv")[-1]
    assert len(table(result.run_dir / "episodes.csv")) == 6


INFOS = [
    ([{"is_success": True}, {"is_success": False}], 0.0),
    ([{"is_success": 0.0}, {"is_success": np.float32(1.0)}, {}], 1.0),
    ([{"success": 0.0}, {"success": 1.0}, {"success": 0.0}], 1.0),
    ([{"success": np.bool_(False)}], 0.0),
    ([{"success": True, "is_success": False}], 0.0),
    ([{}, {"other": 1}], None),
    ([{"success": "yes"}, {"is_success": float("nan")}, {"success": None}], None),
    ([{"success": 7}], 1.0),
    ([None], None),
]


@pytest.mark.parametrize(("infos", "wanted"), INFOS)
def test_success_is_that_of_the_last_step_or_of_any(infos, wanted):
    found = None
    for info in infos:
        found = read_success(info, found)
    assert found == wanted
