"""Short parts of `sweep_kills.py` and `engine_kills.py` in tests/helpers, which kill sweeps at random moments."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sweep_kills

from estep.sweeps import plan
from estep.sweeps.plan import make

HELPER = Path(sweep_kills.__file__)
PATHS = os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))


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


def killed_on(engine, tmp_path, *words):
    """The counts of a campaign on a cluster."""
    out = tmp_path / "kills.csv"
    argv = [sys.executable, str(HELPER.with_name("engine_kills.py")), engine, "--out", str(out), *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=3000, env={**os.environ, "PYTHONPATH": PATHS})
    assert done.returncode == 0, done.stdout + done.stderr
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return sum(int(row["kills"]) for row in rows), {row["losses"] for row in rows}


@pytest.mark.long
def test_sweeps_outlive_kills_on_ray(tmp_path):
    pytest.importorskip("ray", reason="Ray is an extra")
    assert killed_on("ray", tmp_path, "--kills", "6") == (6, {"0"})


@pytest.mark.long
def test_sweeps_outlive_kills_on_slurm(tmp_path):
    here = all(map(shutil.which, ("slurmctld", "slurmd", "sbatch", "munge")))
    if not here or os.geteuid() or subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode:
        pytest.skip("SLURM and a munged that runs are not here, or the user is not root")
    assert killed_on("slurm", tmp_path, "--kills", "6") == (6, {"0"})
