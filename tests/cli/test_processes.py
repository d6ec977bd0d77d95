"""The contract that only real processes can keep: signals, hangs, closed pipes, and the time to the first word."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from estep.runs import storage

ESTEP = (sys.executable, "-m", "estep.cli.main")
SMALL = ("--warmup-steps", "64", "--batch-size", "16", "--hidden-sizes", "16", "--eval-episodes", "1", "--json")
HANGS = """
import time, gymnasium
class Hangs(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))
    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}
    def step(self, action):
        print("hanging", end="")
        time.sleep(600)
gymnasium.register("Hangs-v0", Hangs, max_episode_steps=10)
"""


def last(text: str | bytes) -> dict[str, object]:
    return json.loads(text.splitlines()[-1])


def start(*argv: str, **options: object) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*ESTEP, *argv], **pipes | options)


def test_help_answers_without_importing_what_it_does_not_need():
    slow = ("jax", "gymnasium", "mujoco", "equinox", "optax", "matplotlib")
    check = f"""
import sys
from estep.cli.main import main
assert "tyro" not in sys.modules
main(["train", "iterative-sac", "--help"])
assert not set({slow!r}) & set(sys.modules), set({slow!r}) & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, timeout=60)


def test_a_reader_that_leaves_early_is_no_error():
    process = subprocess.run([*ESTEP, "envs"], stdout=_closed_pipe(), stderr=subprocess.PIPE, timeout=60)
    assert (process.returncode, process.stderr) == (0, b"")


def _closed_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.long
@pytest.mark.slow
def test_sigterm_stops_a_run_and_resume_goes_on(tmp_path: Path):
    argv = ("train", "sac", "--env", "Pendulum-v1", "--preset", "none", "--out", str(tmp_path), *SMALL)
    with start(*argv, "--steps", "1000000", "--replay-size", "1000") as process:
        _wait_for(lambda: any("env_steps" in path.read_text() for path in tmp_path.rglob("metrics.jsonl")), process)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    record = last(out)
    assert record["status"] == "stopped"
    assert "━" not in err
    steps = int(str(record["env_steps"]))
    with start("resume", str(record["run_dir"]), "--steps", str(steps + 64), "--json") as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert last(out)["status"] == "done"
    assert int(str(last(out)["env_steps"])) >= steps + 64


def _wait_for(ready, process) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.long
@pytest.mark.slow
def test_a_finished_run_goes_on_with_more_steps_than_it_was_made_for(tmp_path: Path):
    argv = ("train", "sac", "--env", "Pendulum-v1", "--preset", "none", "--out", str(tmp_path), *SMALL)
    record = last(
        subprocess.run([*ESTEP, *argv, "--steps", "128"], check=True, capture_output=True, timeout=120).stdout
    )
    again = [*ESTEP, "resume", str(record["run_dir"]), "--json"]
    result = last(subprocess.run(again, check=True, capture_output=True, timeout=60).stdout)
    assert {name for name in record if result[name] != record[name]} <= {"wall_s", "env_steps_per_s"}
    longer = subprocess.run([*again, "--steps", "256"], capture_output=True, timeout=120, text=True)
    assert longer.returncode == 0, longer.stderr
    assert last(longer.stdout)["env_steps"] == 256


@pytest.mark.long
@pytest.mark.slow
def test_a_hung_environment_ends_the_run_with_its_last_words(tmp_path: Path):
    storage.write_new(tmp_path / "hangs_here.py", HANGS.encode())
    argv = ("train", "sac", "--env", "hangs_here:Hangs-v0", "--env-timeout", "1", "--out", str(tmp_path / "runs"))
    with start(*argv, *SMALL, env={**os.environ, "PYTHONPATH": str(tmp_path)}) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 5, err
    assert last(out)["status"] == "error"
    assert last(out)["exit_code"] == 5
    assert "has not answered for 1 s" in str(last(out)["error"])
    assert "hanging" not in out
    assert err.startswith("estep ")  # one line before JAX is imported
    (record,) = (json.loads(path.read_text()) for path in tmp_path.rglob("run.json"))
    assert (record["status"], record["exit_code"]) == ("error", 5)


@pytest.mark.long
@pytest.mark.slow
def test_a_command_that_reads_is_ended_by_the_first_signal(tmp_path: Path):
    storage.write_new(tmp_path / "slow_here.py", b"import time\nprint('importing', flush=True)\ntime.sleep(600)\n")
    argv = ("check-env", "slow_here:X-v0", "--json")
    with start(*argv, env={**os.environ, "PYTHONPATH": str(tmp_path)}) as process:
        assert process.stderr is not None
        assert "importing" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert last(out)["status"] == "stopped"
