"""What each command makes of what it is told, with runs that only pretend to be."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from estep.cli import health, inspecting
from estep.cli.results import FIELDS
from estep.errors import EnvironmentFailure, NumericHalt, RejectedInput, StorageFailure
from estep.instruments import inspection
from estep.instruments.calibration import Bias, Calibration, Pair
from estep.instruments.gap import Gap
from estep.instruments.improvement import Growth, Improved, Improvement
from estep.instruments.inspection import Gaps, Inspection
from estep.instruments.interval import interval
from estep.instruments.play.predictions import Ending, Error, Predictions
from estep.instruments.play.realised import InState, Realisation, Realised
from estep.instruments.staleness import Staleness
from estep.policy import recorded
from estep.policy.evaluate import Evaluation
from estep.policy.progress import Plain, describe
from estep.training import run as run_module
from estep.training.ending import Result

RELEASE = Path(__file__).parents[1] / "releases" / "0.1.0"
TRAIN = ("train", "iterative-sac", "--env", "Hopper-v5")
RESULT = Result("done", Path("/runs/a"), 1200, 200, -7.5, 0.5, 10, 3.0, 400.0)


class Pretence:
    """Stands in for run.train and its like: remembers what it was given, then returns or raises."""

    def __init__(self, outcome):
        self.outcome = outcome
        self.arguments = ()
        self.options = {}

    def __call__(self, *arguments, **options):
        self.arguments, self.options = arguments, options
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.fixture
def pretend(monkeypatch):
    def replace(module, name, outcome):
        stand_in = Pretence(outcome)
        monkeypatch.setattr(module, name, stand_in)
        return stand_in

    return replace


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text("{}")
    return tmp_path / "a"


def test_defaults_give_way_to_the_preset_and_the_preset_to_flags(run, pretend):
    seen = pretend(run_module, "train", RESULT)
    run(*TRAIN, "--warmup-steps", "7", "--gamma", "0.5", "--no-antithetic", "--hidden-sizes", "8", "4")
    algorithm, env, config = seen.arguments
    assert env == "Hopper-v5"
    assert seen.options["preset"] == "Hopper-v5"
    assert seen.options["out"] == Path("runs")
    assert (algorithm.beta, algorithm.gamma, algorithm.antithetic, algorithm.hidden_sizes) == (2.12, 0.5, False, (8, 4))
    assert (config.steps, config.warmup_steps, config.seed) == (1_000_000, 7, 0)
    run(*TRAIN, "--preset", "none")
    assert seen.arguments[0].beta == 3.54
    assert seen.options["preset"] is None
    run(*TRAIN, "--preset", "paper", "--beta", "3.54")
    assert (seen.arguments[0].samples, seen.options["preset"]) == (10, "paper")


def test_a_flag_given_its_default_still_wins_over_the_preset(run, pretend):
    seen = pretend(run_module, "train", RESULT)
    run(*TRAIN, "--beta", "3.54")
    assert seen.arguments[0].beta == 3.54


def test_the_runs_folder(run, pretend, monkeypatch):
    seen = pretend(run_module, "train", RESULT)
    monkeypatch.setenv("ESTEP_RUNS_DIR", "/elsewhere")
    run(*TRAIN)
    assert seen.options["out"] == Path("/elsewhere")
    run(*TRAIN, "--out", "here")
    assert seen.options["out"] == Path("here")


@pytest.mark.parametrize(("status", "code"), [("done", 0), ("stopped", 75)])
def test_train_ends_with_its_result(run, pretend, status, code):
    pretend(run_module, "train", RESULT._replace(status=status, eval_std=float("nan"), env_steps_per_s=None))
    ended = run(*TRAIN, "--json")
    assert ended.code == code
    assert len(ended.out.splitlines()) == 1
    assert set(ended.record) == set(FIELDS)
    assert ended.record["status"] == status
    assert (ended.record["eval_std"], ended.record["env_steps_per_s"]) == (None, None)
    assert (ended.record["run_dir"], ended.record["env_steps"], ended.record["eval_mean"]) == ("/runs/a", 1200, -7.5)
    people = run(*TRAIN)
    assert people.code == code
    assert "/runs/a" in people.out
    assert "-7.5 ±" in people.out
    assert ("estep resume" in people.out) == (status == "stopped")


FAILURES = [
    (RejectedInput("a", "b"), 3),
    (NumericHalt("a", "b"), 4),
    (EnvironmentFailure("a\n\nlong\nwhat", "b\nc"), 5),
    (StorageFailure("a", "b"), 6),
    (ValueError("what\nis this"), 1),
    (RecursionError(), 1),
    (SystemExit(0), 1),
]


@pytest.mark.parametrize(("failure", "code"), FAILURES, ids=lambda value: type(value).__name__)
def test_a_failure_has_its_code_and_few_words(run, pretend, failure, code):
    pretend(run_module, "train", failure)
    ended = run(*TRAIN, "--json")
    assert ended.code == code
    assert len(ended.err.splitlines()) == 2
    assert (ended.record["status"], ended.record["exit_code"]) == ("error", code)
    assert "Traceback (most recent call last)" in run(*TRAIN, "--verbose").err


def test_whatever_an_environment_prints_goes_to_stderr(run, monkeypatch):
    def chatty(*arguments, context, **options):
        print("from python", end="")
        os.write(1, b"from a library")
        context.report.started(Path("/runs/a"))
        context.report.progress({"env_steps": 5, "steps": 10, "updates": 2, "env_steps_per_s": 1.0})
        raise EnvironmentFailure("It raised.")

    monkeypatch.setattr(run_module, "train", chatty)
    ended = run(*TRAIN, "--json")
    assert ended.code == 5
    assert len(ended.out.splitlines()) == 1
    assert "from python" in ended.err
    assert "from a library" in ended.err
    known = {"run_dir": "/runs/a", "env_steps": 5, "updates": 2}
    assert known.items() <= ended.record.items()


def test_resume_and_eval_pass_consent_on(run, pretend, folder):
    seen = pretend(run_module, "resume", RESULT)
    assert run("resume", str(folder), "--steps", "5", "--allow-import").code == 0
    assert seen.arguments == (folder,)
    assert {"steps": 5, "env": None, "allow_import": True}.items() <= seen.options.items()
    judged = recorded.EvalResult(Evaluation(1.5, 0.5, [1.0, 2.0], [3, 4]), folder, 7, 6)
    seen = pretend(recorded, "evaluate_run", judged)
    ended = run("eval", str(folder), "--env", "Hopper-v5", "--episodes", "2", "--checkpoint", "40", "--json")
    assert ended.code == 0
    wanted = {"settings": recorded.EvalSettings(2), "checkpoint": "40", "env": "Hopper-v5", "allow_import": False}
    assert wanted.items() <= seen.options.items()
    record = {"status": "done", "eval_mean": 1.5, "eval_std": 0.5, "eval_episodes": 2, "env_steps": 7, "updates": 6}
    assert {**record, "run_dir": str(folder), "returns": [1.0, 2.0]}.items() <= ended.record.items()
    assert set(FIELDS) <= set(ended.record)
    assert "1.5 ± 0.5" in run("eval", str(folder)).out


@pytest.mark.long
def test_inspect_tells_what_was_found_and_what_does_not_apply(run, pretend, folder, tmp_path):
    curve = [Improvement(k, float(k), k - 0.5, k + 0.5) for k in range(3)]
    gaps = [Gap(1.0, 1.5, 2.0, 1.0, 1.01, 0.02, 900.0), Gap(0.0, 1.0, 2.0, 2.0, 0.01, 0.02, 800.0)]
    biases = [Bias(1.0, True, 0.25, -1.0, 1.5)]
    calibrated = Calibration([Pair(0, 3, 1.0, 2.0, 1.0, 0.75, 0.1)], biases, True)
    improved, reason = Improved(curve, [Growth(100, *curve[1])], []), {"modes": "There are none."}
    waited = [Staleness("kept", 40, k, 0.5 - 0.2 * k, 0.1, 0.9) for k in range(2)]
    kept = [*waited, Staleness("afresh", 0, 5, 0.2, 0.1, 0.3)]
    gains = Realised("iterative", 5, *(2.0, 1.5, 2.5), *(-0.5, -0.75, -0.25), *(0.0, -0.5, 0.5), *(0.0,) * 10)
    gained = Realisation([gains], [InState("iterative", 5, 0, 3, 2.0, -0.5, 0.0, 0.0, False, True)], 25, 150, 1, 1, 9.0)
    errors = [Error(1, 0.1, 0.05, 0.15, 0.5, 0.95, 0.9, 1.0, 0.9, 0.02, 0.01, 0.03, 256)]
    foreseen = Predictions(errors, [Ending(0.0, 0.001, 5e-4, 0.0, 0.0, 0.01, 400)], 10, 5, 0.2, 0)
    nothing = (None,) * 4
    found = Inspection(100, 1, improved, Gaps(True, gaps), *nothing, kept, calibrated, gained, foreseen, reason)
    seen = pretend(inspection, "inspect_run", found)
    ended = run("inspect", str(folder), "--only", "improvement", "gap", "--states", "8", "--json")
    assert ended.code == 0
    assert (seen.options, seen.arguments[1].only, seen.arguments[1].states) == ({}, ("improvement", "gap"), 8)
    assert ended.record["improvement"][2] == {"iteration": 2, "mean": 2.0, "low": 1.5, "high": 2.5}
    assert ended.record["gap"]["total"]["mean"] == 1.5
    assert (ended.record["gap"]["largest_residual"], ended.record["gap"]["within_3_errors"]) == (0.0, 1.0)
    assert ended.record["not_measured"] == reason
    assert Path(ended.record["files"]["gap.png"]).parent == folder / "plots"
    said = run("inspect", str(folder), "--out", str(tmp_path / "out")).out
    assert "no modes: There are none." in said
    assert "amortisation" in said
    assert "iterative, 5                 2 [1.5, 2.5]        -0.5 [-0.75, -0.25]           0 [-0.5, 0.5]" in said
    assert ended.record["realised"]["rows"][0]["realised"] == -0.5
    assert {name: ended.record["realised"][name] for name in ("steps", "horizon", "states")} == {
        "steps": 25,
        "horizon": 150,
        "states": 1,
    }
    assert (tmp_path / "out" / "realised_states.csv").read_text().splitlines()[1].startswith("iterative,5,0,3,2.0,-0.5")
    assert (tmp_path / "out" / "realised.png").exists()
    assert "1 steps        0.1 [0.05, 0.15] unchanged 0.5, reward 0.02, within 95% [90%, 100%]" in said
    assert ended.record["model"]["errors"][0]["coverage"] == 0.95
    assert (tmp_path / "out" / "model_endings.csv").read_text().splitlines()[1].startswith("0.0,0.001,0.0005")
    assert "kept, 40 steps old, 1 iterations" in said
    assert (tmp_path / "out" / "calibration.png").exists()
    assert (tmp_path / "out" / "staleness.svg").exists()
    assert (tmp_path / "out" / "staleness.csv").read_text().startswith("start,env_steps,iterations,missing,low,high\n")


def runs_of_seeds(place, seeds):
    """Folders with the configuration of a recorded run, each with a seed of its own."""
    config = json.loads((RELEASE / "sac-Pendulum-v1" / "config.json").read_text())
    for seed in seeds:
        folder = place / f"s{seed}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
        (folder / "config.json").write_text(json.dumps(config | {"run": config["run"] | {"seed": seed}}))


def a_gap(amount):
    rows = [Gap(1.0, 1.0, 1.0 + amount, 1.0, 1.0, 0.1, 9.0) for amount in (amount - 0.5, amount + 0.5)]
    return Inspection(100, 1, None, Gaps(True, rows), *(None,) * 8, {"modes": "There are none."})


def test_inspect_takes_several_runs_and_gives_their_means_over_seeds(run, monkeypatch, tmp_path):
    runs_of_seeds(tmp_path / "runs", (0, 1, 2))

    def measure(folder, options, context):
        if folder.name == "s1":
            raise RejectedInput("There is no replay.", "Train again.")
        return a_gap({"s0": 1.0, "s2": 2.0}[folder.name])

    monkeypatch.setattr(inspection, "inspect_run", measure)
    ended = run("inspect", str(tmp_path / "runs"), "--only", "gap", "--json")
    assert ended.code == 3  # and nothing is lost of the others
    assert ended.record["error"].startswith("1 of 3 runs cannot be used: s1: There is no replay.")
    assert [Path(folder).name for folder in ended.record["runs"]] == ["s0", "s2"]
    assert [Path(folder).name for folder in ended.record["failed"]] == ["s1"]
    assert (tmp_path / "runs" / "s2" / "plots" / "gap.csv").exists()
    total, *parts = ended.record["over_seeds"]
    assert [part["quantity"] for part in parts] == ["gap, approximation", "gap, amortisation"]
    assert (total["algorithm"], total["seeds"], total["mean"]) == ("sac", 2, 1.5)
    assert (total["low"], total["high"]) == tuple(interval([1.0, 2.0])[1:])  # over seeds, not over states

    said = run("inspect", *(str(tmp_path / "runs" / name) for name in ("s0", "s2")), "--only", "gap").out
    assert "over seeds: sac on Pendulum-v1" in said
    assert "gap                   2         1.5  [-4.853, 7.853]" in said
    assert run("inspect", str(tmp_path / "runs"), "--only", "modes", "--json").record["over_seeds"] == []
    ended = run("inspect", str(tmp_path / "runs" / "s1"), str(tmp_path / "runs" / "s1"), "--json")
    assert ended.code == 3
    assert ended.record["error"] == "There is no replay. Train again."


def test_eval_takes_several_runs_and_gives_their_mean_over_seeds(run, monkeypatch, tmp_path):
    runs_of_seeds(tmp_path / "runs", (0, 1, 2))

    def evaluate(folder, **options):
        mean = {"s0": 1.0, "s1": 3.0, "s2": 5.0}[folder.name]
        return recorded.EvalResult(Evaluation(mean, 0.5, [mean - 0.5, mean + 0.5], [3, 3]), folder, 10, 10)

    monkeypatch.setattr(recorded, "evaluate_run", evaluate)
    ended = run("eval", str(tmp_path / "runs"), str(tmp_path / "runs" / "s1"), "--json")  # one is named twice
    assert ended.code == 0
    assert [one["eval_mean"] for one in ended.record["runs"].values()] == [1.0, 3.0, 5.0]
    (over,) = ended.record["over_seeds"]
    assert (over["quantity"], over["seeds"], over["mean"]) == ("return", 3, 3.0)
    assert (over["low"], over["high"]) == tuple(interval([1.0, 3.0, 5.0])[1:])
    assert "return    3           3  [-1.968, 7.968]" in run("eval", str(tmp_path / "runs")).out
    ended = run("eval", str(tmp_path / "runs"), "--member", "0")
    assert "--member is for one run, and 3 are given." in ended.err


def test_inspect_of_several_runs_has_no_folder_of_its_own(run, tmp_path):
    runs_of_seeds(tmp_path / "runs", (0, 1))
    for flags in (("--out", str(tmp_path / "out")), ("--member", "0")):
        ended = run("inspect", str(tmp_path / "runs"), *flags)
        assert ended.code == 2
        assert f"{flags[0]} is for one run, and 2 are given." in ended.err
    ended = run("inspect", "--only", "gap")
    assert ended.code == 2
    assert "No run is given" in ended.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--only", "gaps"), "Did you mean gap"),
        (("--states", "1"), "at least 2"),
        (("--checkpoint", "lates"), "Did you mean latest"),
    ],
)
def test_inspect_refuses_what_cannot_be(run, folder, flags, message):
    ended = run("inspect", str(folder), *flags)
    assert ended.code == 2
    assert message in ended.err


def test_the_names_of_instruments_are_those_there_are():
    assert tuple(inspection.INSTRUMENTS) == inspecting.INSTRUMENTS


@pytest.mark.parametrize("command", ["resume", "eval", "inspect", "verify"])
def test_a_folder_that_is_no_run_is_refused(run, command, tmp_path):
    ended = run(command, str(tmp_path / "nothing"), "--json")
    assert ended.code == 3
    assert ended.record["exit_code"] == 3


def test_verify_takes_several_runs_and_names_those_that_are_not_sound(run, monkeypatch, tmp_path):
    from estep.runs import checkpoint

    runs_of_seeds(tmp_path / "runs", (0, 1))
    broken = {"s0": None, "s1": "it is torn"}
    monkeypatch.setattr(checkpoint, "verify", lambda folder: [(Path("step_1"), broken[folder.name])])
    ended = run("verify", str(tmp_path / "runs"), "--json")
    assert ended.code == 3
    assert "1 of 2 runs cannot be used: s1: 1 of 1 checkpoints cannot be used: step_1: it is torn" in ended.err
    assert ended.record["runs"] == {str(tmp_path / "runs" / "s0"): [{"name": "step_1", "ok": True, "reason": None}]}
    assert "checkpoints" not in ended.record
    broken["s1"] = None
    assert run("verify", str(tmp_path / "runs")).code == 0


def test_verify_needs_every_checkpoint_sound(run, monkeypatch, folder):
    from estep.runs import checkpoint

    monkeypatch.setattr(checkpoint, "verify", lambda _: [(Path("step_1"), None), (Path("step_2"), None)])
    assert run("verify", str(folder)).code == 0
    monkeypatch.setattr(checkpoint, "verify", lambda _: [(Path("step_1"), None), (Path("step_2"), "it is torn")])
    ended = run("verify", str(folder), "--json")
    assert ended.code == 3
    assert [one["ok"] for one in ended.record["checkpoints"]] == [True, False]
    assert "it is torn" in ended.err


def test_config_shows_and_compares(run, tmp_path):
    shown = json.loads(run("config", "show", "sac", "--env", "Swimmer-v5").out)
    assert (shown["algorithm"]["gamma"], shown["preset"]) == (0.9999, "Swimmer-v5")
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "run.json").write_text("{}")
    (tmp_path / "r" / "config.json").write_text(json.dumps({**shown, "run": {**shown["run"], "seed": 3}}))
    ended = run("config", "diff", "sac", str(tmp_path / "r"), "--env", "Swimmer-v5", "--json")
    assert ended.record["differences"] == {"run.seed": [0, 3]}
    ended = run("config", "diff", str(tmp_path / "r"), "--json")
    assert ended.record["differences"] == {
        "algorithm.gamma": {"default": 0.99, "preset": 0.9999, "value": 0.9999},
        "run.warmup_steps": {"default": 5_000, "preset": 10_000, "value": 10_000},
        "run.seed": {"default": 0, "preset": 0, "value": 3},
    }
    assert run("config", "diff", "sac").out == "no difference from the defaults\n"


def test_config_diff_knows_the_names_of_earlier_releases_and_shows_no_bookkeeping(run, tmp_path):
    old = {"algorithm": {"name": "sac", "discount": 0.9}, "env": {"id": "E", "by_id": True}, "run": {"warmup": 5_000}}
    for name, format in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
        (tmp_path / name / "config.json").write_text(json.dumps({**old, "format": format, "preset": None}))
    assert run("config", "diff", str(tmp_path / "a"), str(tmp_path / "b")).out == "no difference\n"
    ended = run("config", "diff", str(tmp_path / "a"), "--json")
    assert ended.record["differences"] == {"algorithm.gamma": {"default": 0.99, "value": 0.9}}
    (tmp_path / "a" / "config.json").write_text(json.dumps({**old, "algorithm": {"name": "not_here:Mine"}}))
    assert run("config", "diff", str(tmp_path / "a")).code == 2  # and the module is not imported


def test_check_env(run):
    ended = run("check-env", "Pendulum-v1", "--json")
    assert ended.code == 0
    assert all(one["ok"] for one in ended.record["findings"])
    ended = run("check-env", "Blackjack-v1", "--json")  # its observation is a tuple
    assert ended.code == 5
    assert not all(one["ok"] for one in ended.record["findings"])


def test_doctor_names_the_fix_of_each_failure(run, monkeypatch):
    assert run("doctor").code == 0

    def broken():
        raise RuntimeError("no such thing")

    monkeypatch.setitem(health.CHECKS, "disk", lambda: (False, "0 GB free", "Free some space."))
    monkeypatch.setitem(health.CHECKS, "mujoco", broken)
    ended = run("doctor", "--json")
    assert ended.code == 1
    assert "Free some space." in ended.err
    assert "no such thing" in ended.err
    assert sum(not one["ok"] for one in ended.record["checks"]) == 2


def test_lists(run):
    for command, key in (("algos", "algorithms"), ("envs", "envs"), ("presets", "presets")):
        ended = run(command, "--json")
        assert ended.code == 0
        assert len(ended.record[key]) > 1
        assert run(command).out
    assert run("--version").out.startswith("estep ")


def test_plain_progress_is_a_line_a_minute(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("estep.policy.progress.time.monotonic", lambda: clock[0])
    report = Plain({})
    for second in range(0, 181):
        clock[0] = float(second)
        report.progress({"env_steps": second, "steps": 180, "updates": 0})
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_progress_is_described_by_what_there_is():
    assert describe({}) == ""
    record = {"env_steps_per_s": 1930.4, "eta_s": 3725.0, "return": -187.26, "best": -152.0}
    text = describe({**record, "e/value": -12.25, "e/improvement": 0.5, "m/alpha": 0.123})
    assert text == ("1,930 step/s · eta 1 h 02 min · return -187.3 · best -152 · value -12.25 (+0.5) · alpha 0.123")
    assert describe({"env_steps_per_s": float("inf"), "eta_s": float("nan")}) == ""
    kls = {"m/kl": 0.09, "m/kl_bound": 0.1, "m/kl_mean": 0.004, "m/kl_mean_bound": 0.005}
    assert (
        describe({**kls, "e/ess": 12.34, "e/kept": 0.5})
        == "kl 0.09 of 0.1 · kl mean 0.004 of 0.005 · ess 12.34 · kept 50%"
    )
