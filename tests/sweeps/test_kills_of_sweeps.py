"""Short parts of `tests/helpers/sweep_kills.py`, which kills sweeps at random moments."""

import subprocess
import sys
from pathlib import Path

import pytest
import sweep_kills

from estep.sweeps import plan
from estep.sweeps.plan import make

HELPER = Path(sweep_kills.__file__)


def killed(*words):
    """What a campaign says."""
    done = subprocess.run([sys.executable, str(HELPER), *words], capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_a_sweep_that_is_killed_goes_on():
    assert "2 kills" in killed("--kills", "2")


@pytest.mark.long
def test_sweeps_outlive_two_hundred_kills():
    assert "200 kills" in killed("--kills", "200")


@pytest.mark.long
def test_sweeps_that_train_outlive_kills_bit_for_bit():
    assert "20 kills" in killed("--kills", "20", "--real")


def test_a_run_that_ended_otherwise_is_seen(tmp_path):
    run = make("sac", ["Pendulum-v1"], 0, {}, "auto", {})
    plan.write(tmp_path, [run])
    before = sweep_kills.content(tmp_path, False)
    folder = tmp_path / plan.RUNS / run.id
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"status": "done", "result": {"env_steps": 5, "eval_mean": 1.5, "wall_s": 1}}')
    assert sweep_kills.content(tmp_path, False) != before
