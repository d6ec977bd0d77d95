"""Short parts of `make kills`, `make power` and `make soak`, and that each finds what it looks for."""

import os
import subprocess
import sys
import time
from pathlib import Path

import child
import exactness
import kills
import power
import pytest
import small
import soak

from estep.policy import cache
from estep.runs import leftovers, storage

HELPERS = Path(__file__).parent / "helpers"


@pytest.mark.long
def test_a_run_that_is_killed_goes_on_as_if_it_had_not_been():
    command = [sys.executable, str(HELPERS / "kills.py"), "--stride", "40", "--random", "3"]
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=paths)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("campaign", [kills, power, soak, exactness])
def test_a_campaign_has_all_that_it_needs(campaign):
    assert campaign.main
    obs, _ = small.left().reset(seed=0)
    assert obs.shape == (2,)


def test_the_comparison_of_runs_sees_a_changed_file(tmp_path):
    def written(name, best, seconds):
        run = tmp_path / name
        run.mkdir()
        (run / "best").write_text(best)
        (run / "run.json").write_text(f'{{"result": {{"wall_s": {seconds}, "env_steps": 5}}}}')
        (run / "eval.csv").write_text(f"env_steps,mean,wall_s\n5,1.5,{seconds}\n")
        (run / "metrics.jsonl").write_text(f'{{"env_steps": 5, "time/act_s": {seconds}}}\n')
        return small.files(run)

    assert written("a", "step_5", 1.0) == written("b", "step_5", 2.0)
    assert written("c", "step_6", 1.0) != written("d", "step_5", 1.0)


def test_a_kill_that_loses_a_reported_save_is_found(tmp_path):
    assert "there is no run folder" in kills.check(tmp_path, 16)
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c" / "run.json").write_text("{}")
    assert "there is no checkpoint" in kills.check(tmp_path, 16)
    assert kills.check(tmp_path, 0) == ""


def drawn(calls):
    """What is wrong on 100 disks after these calls, of which the last one reports a save."""
    found = []
    for number, acknowledged, names, contents in power.disks(calls, 100, seed=0):
        entries = names[power.ROOT]
        if acknowledged and contents.get(entries.get("latest")) != b"new":
            found.append(number)
    return found


def recorded(tmp_path, monkeypatch):
    """The calls of one atomic write, and a report of it."""
    recorder = power.Recorder(tmp_path)
    monkeypatch.setattr(storage, "os", recorder)
    storage.write_atomic(tmp_path / "latest", b"new")
    return [*recorder.calls, ("saved", 1)]


def test_an_atomic_write_outlives_a_loss_of_power(tmp_path, monkeypatch):
    assert drawn(recorded(tmp_path, monkeypatch)) == []


@pytest.mark.parametrize("missing", [0, 1])
def test_a_sync_that_is_left_out_is_found(tmp_path, monkeypatch, missing):
    calls = recorded(tmp_path, monkeypatch)
    syncs = [i for i, call in enumerate(calls) if call[0] == "fsync"]
    assert len(syncs) == 2  # of the file, and of its folder
    del calls[syncs[missing]]
    assert drawn(calls)


@pytest.mark.long
def test_the_loss_of_power_loses_no_reported_checkpoint():
    command = [sys.executable, str(HELPERS / "power.py"), "--samples", "300"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_old_checkpoint_is_renamed_for_good_before_it_is_emptied(tmp_path, monkeypatch):
    """Otherwise the loss of power could bring its name back without its content."""
    seen = []
    monkeypatch.setattr(storage, "hook", lambda name, path: seen.append((name, path.name)))
    (tmp_path / "step_1").mkdir()
    leftovers.retire(tmp_path / "step_1")
    assert [name for name, _ in seen] == ["rename", "fsync", "unlink"]
    assert seen[1][1] == tmp_path.name


@pytest.mark.long
def test_a_jump_of_the_clock_changes_nothing(tmp_path, monkeypatch):
    changes = {"steps": 80, "checkpoint_every": 40}
    still = child.train(tmp_path / "a", **changes).run_dir
    jumps = iter([0.0, -3e7, 3e8] * 10**6)
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + next(jumps))
    assert child.outcome(child.train(tmp_path / "b", **changes).run_dir) == child.outcome(still)


def test_a_cache_that_others_may_write_to_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("ESTEP_CACHE_DIR", str(tmp_path))
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax").chmod(0o777)
    config = type("Config", (), {"jax_compilation_cache_dir": None})()  # whoever runs the tests may have set one
    monkeypatch.setattr(cache.jax, "config", config)
    assert "other users may write" in cache.use_cache()
    assert config.jax_compilation_cache_dir is None
