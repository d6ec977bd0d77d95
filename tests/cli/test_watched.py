"""Every command that plays in an environment ends with exit code 5 where a call of it hangs or raises."""

import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from commandline import command

from estep.runs.folder import RunFolder

HERE = Path(__file__).parents[1]
ENV = "hanging:Hanging-v0"
RUN = "RUN"
COMMANDS = {
    "eval": ("eval", RUN, "--episodes", "1"),
    "inspect": ("inspect", RUN, "--only", "calibration", "--episodes", "2"),
    "record": ("record", RUN, "--out", "video.webp"),
    "resume": ("resume", RUN, "--steps", "310"),
    "check-env": ("check-env", ENV, "--env-timeout", "1"),
}
CALLS = [(name, call) for name in COMMANDS for call in ("construction", "reset", "step", "close")]
CALLS.append(("record", "render"))


@pytest.fixture
def run(tmp_path):
    """A run of 300 steps whose environment may fail."""
    place = tmp_path / "run"
    shutil.copytree(HERE / "releases" / "0.1.0" / "sac-Pendulum-v1", place, copy_function=shutil.copyfile)
    place.chmod(0o700)
    folder = RunFolder.open(place)
    config = folder.read_config()
    config["env"]["id"] = ENV
    config["run"]["env_timeout"] = 1.0
    folder.write_config(config, {})
    return place


def arguments(name, run):
    """The command on the run, with consent to import the module of its environment."""
    given = [str(run) if word == RUN else word for word in COMMANDS[name]]
    return given if name == "check-env" else [*given, "--allow-import"]


def environment(tmp_path, fault):
    paths = os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))
    return {**os.environ, "PYTHONPATH": paths, "HANGING": fault, "MUJOCO_GL": "osmesa", "HOME": str(tmp_path)}


@pytest.mark.long
@pytest.mark.parametrize("how", ["sleep", "lock"])
@pytest.mark.parametrize(("name", "call"), CALLS)
def test_a_call_that_hangs_ends_the_command_within_its_timeout_and_a_second(name, call, how, run, tmp_path):
    began = tmp_path / "began"
    argv = [sys.executable, "-m", "estep", *arguments(name, run)]
    done = subprocess.run(
        argv,
        cwd=tmp_path,
        env=environment(tmp_path, f"{call} {how} {began}"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    took = time.monotonic() - float(began.read_text())
    assert done.returncode == 5, done.stderr
    assert took < 1 + 1, done.stderr
    assert "has not answered for 1 s" in done.stderr


@pytest.mark.parametrize("call", ["construction", "reset", "step", "render", "close"])
def test_whatever_an_environment_raises_ends_a_recording_with_5(call, run, tmp_path, monkeypatch):
    check_raises("record", call, "exit", run, tmp_path, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("how", ["raise", "exit"])
@pytest.mark.parametrize(("name", "call"), CALLS)
def test_whatever_an_environment_raises_ends_the_command_with_5(name, call, how, run, tmp_path, monkeypatch):
    check_raises(name, call, how, run, tmp_path, monkeypatch)


def check_raises(name, call, how, run, tmp_path, monkeypatch):
    """Run a command in this process. A failure to close is a warning, but what check-env looks for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setenv("HANGING", f"{call} {how} -")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a failure to close
        ended = command(*arguments(name, run))
    harmless = call == "close" and name != "check-env"
    assert ended.code == (0 if harmless else 5), ended.err
    assert "Traceback" not in ended.err
    said = "SystemExit" if how == "exit" else "broken on purpose"
    assert harmless or said in ended.err
