"""`resume` beyond the same bits: finished runs, longer runs, broken, locked and foreign ones."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from child import SMALL, Notes, digest, metrics, records, resume, table, train
from faulty import Counter, Noisy, at

from estep.errors import EnvironmentFailure, RejectedInput, UsageError
from estep.policy.environments import chosen_env
from estep.runs import checkpoint, config_file
from estep.runs.config_file import Recipe
from estep.runs.folder import RunFolder
from estep.settings.run import RunConfig

IDLE = {"warmup_steps": 10_000, "eval_every": 0, "eval_episodes": 1}
"""No updates: what is tested here does not need any."""
LARGER = {"checkpoint_every": 30, "eval_every": 50}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run of 120 steps, which no test may change."""
    return train(tmp_path_factory.mktemp("done"), **LARGER)


@pytest.fixture
def copy(done, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(done.run_dir, tmp_path / "copy"))


def files(folder):
    return {p: p.stat().st_mtime_ns for p in Path(folder).rglob("*") if p.is_file() and p.name != ".lock"}


@pytest.mark.parametrize("steps", [None, 120, 50])
def test_a_finished_run_gives_its_result_again(done, copy, steps):
    before, notes = files(copy), Notes()
    again = resume(copy, steps=steps, report=notes)
    assert again == done._replace(run_dir=copy)
    assert notes.said("finished")
    assert files(copy) == before


def test_with_larger_steps_it_goes_on_as_if_it_had_not_ended(done, copy, tmp_path):
    evaluated = float(table(copy, "eval.csv")[-1]["wall_s"])  # what it took from there to its end is in no checkpoint
    longer = resume(copy, steps=170)
    assert (longer.status, longer.env_steps, longer.updates) == ("done", 170, 128)
    assert longer.wall_s > evaluated
    assert RunFolder.open(copy).read_config()["run"]["steps"] == 170
    whole = train(tmp_path / "whole", steps=170, **LARGER).run_dir
    for part in ("params", "optim", "replay", "env"):
        assert digest(copy, part) == digest(whole, part)
    assert records(copy)["metrics.jsonl"] == records(whole)["metrics.jsonl"]
    assert [row["env_steps"] for row in table(copy, "eval.csv")] == ["50", "100", "120", "150", "170"]


def test_a_larger_total_is_remembered_when_the_longer_run_is_cut(copy):
    assert resume(copy, lambda: True, steps=170).status == "stopped"
    assert resume(copy).env_steps == 170


def test_a_smaller_total_than_was_taken_ends_at_once(tmp_path):
    stopped = train(tmp_path, stop=iter([False] * 49 + [True]).__next__, **IDLE)
    found = resume(stopped.run_dir, steps=20)
    assert (found.status, found.env_steps) == ("done", 50)


def test_a_corrupt_checkpoint_is_passed_over_with_a_note(done, copy):
    newest = checkpoint.newest(copy)[0]
    with open(newest / "params.safetensors", "r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    config_file = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(config_file | {"status": "error"}))
    notes = Notes()
    assert resume(copy, report=notes).env_steps == 120
    assert notes.said(f"skipped  {newest.name}")
    assert notes.said("resumed  at 100 steps")
    assert digest(copy, "params") == digest(done.run_dir, "params")
    assert [line["env_steps"] for line in metrics(copy)] == [20, 40, 60, 80, 100, 120]


def test_a_run_without_any_sound_checkpoint_is_rejected(copy):
    for manifest in copy.glob("checkpoints/*/manifest.json"):
        manifest.write_text("{")
    with pytest.raises(RejectedInput, match="can be used"):
        resume(copy, steps=200)


def test_a_locked_run_is_rejected(copy):
    with RunFolder.open(copy) as held:
        held.lock()
        with pytest.raises(RejectedInput, match="being written by process") as raised:
            resume(copy)
    assert raised.value.exit_code == 3
    assert resume(copy).status == "done"


def test_another_environment_is_a_usage_error(copy):
    with pytest.raises(UsageError, match="Pendulum-v1") as raised:
        resume(copy, steps=200, env="HalfCheetah-v5")
    assert raised.value.exit_code == 2


def test_a_folder_that_is_no_run_is_rejected(tmp_path):
    with pytest.raises(RejectedInput, match="not a run folder"):
        resume(tmp_path)


def rewrite(path, change):
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["run"].update(extra=1),
        lambda found: found["run"].update(steps="1"),
        lambda found: found.update(format=3),
        lambda found: found["algorithm"].update(learning_rate=float("nan")),
        lambda found: found["run"].update(num_envs=2),
        lambda found: found["run"].update(normalise=True),
        lambda found: found["run"].update(replay_size=77),
        lambda found: found.update(env={"id": "InvertedPendulum-v5", "by_id": True}),
    ],
)
def test_a_tampered_configuration_is_rejected(copy, change):
    rewrite(copy / "config.json", change)
    rewrite(copy / "run.json", lambda found: found.update(status="stopped"))
    before = (copy / "metrics.jsonl").read_bytes()
    with pytest.raises((RejectedInput, UsageError)):  # the latter: the recorded spaces are not of this environment
        resume(copy)
    assert (copy / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("result", [None, [], {}, {"env_steps": "x"}, {"env_steps": 10**9}, {"env_steps": None}])
def test_a_result_that_cannot_be_read_is_not_believed(done, copy, result):
    rewrite(copy / "run.json", lambda found: found.update(result=result))
    assert resume(copy).eval_mean == done.eval_mean


def test_a_module_is_imported_only_by_consent():
    recipe = Recipe("sac", SMALL["sac"], "evil_module:Id-v0", True, RunConfig(), None)
    with pytest.raises(UsageError, match="evil_module") as raised:
        chosen_env(recipe, None, False)
    assert "--allow-import" in raised.value.fix
    assert chosen_env(recipe, None, True) == "evil_module:Id-v0"
    assert chosen_env(recipe, "evil_module:Id-v0", False) == "evil_module:Id-v0"
    with pytest.raises(UsageError):
        chosen_env(recipe, "other:Id-v0", False)


def test_a_run_folder_alone_never_makes_code_run(copy, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    rewrite(copy / "config.json", lambda found: found["env"].update(id="trap:Pendulum-v1"))
    with pytest.raises(UsageError, match="trap"):
        resume(copy, steps=200)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.filterwarnings("ignore:.* episodes were cut")
def test_an_environment_made_by_a_function_must_be_given_again(tmp_path):
    make = lambda: Counter(length=0)
    stopped = train(tmp_path, env=make, stop=lambda: True, max_episode_steps=5, **IDLE)
    with pytest.raises(UsageError, match="function"):
        resume(stopped.run_dir)
    assert resume(stopped.run_dir, env=make).env_steps == 120


def test_an_instance_that_cannot_be_copied_is_refused_before_anything_is_made(tmp_path):
    env = Counter(length=5)
    env.lock = threading.Lock()
    with pytest.raises(UsageError, match="second one"):
        train(tmp_path / "out", env=env, **IDLE)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:.* episodes were cut")
def test_an_episode_that_does_not_replay_is_cut_and_said(tmp_path):
    changes = {**IDLE, "steps": 200, "max_episode_steps": 5}
    stopped = train(tmp_path, env=Noisy, stop=iter([False] * 159 + [True]).__next__, **changes)
    notes = Notes()
    found = resume(stopped.run_dir, env=Noisy, report=notes)
    assert notes.said("could not be restored exactly")
    assert found.env_steps == 200
    assert metrics(stopped.run_dir)[-1]["data/replay"] == 200


def test_an_environment_that_fails_at_reset_leaves_no_folder(tmp_path):
    broken = lambda: Counter(fault=at(0, "obs", np.full(3, np.nan, np.float32)))
    with pytest.raises(EnvironmentFailure):
        train(tmp_path / "out", env=broken, **IDLE)
    assert not (tmp_path / "out").exists()


def test_a_recorded_configuration_builds_the_same_run(done, tmp_path):
    recipe = config_file.decode(RunFolder.open(done.run_dir).read_config())
    again = train(tmp_path, recipe.algorithm, env=recipe.env, **vars(recipe.run))
    assert digest(again.run_dir) == digest(done.run_dir)
