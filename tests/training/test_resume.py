"""A run that was cut ends as if it had not been, to the bit (D1, D3-D5 of the reliability contract)."""

import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from child import Notes, digest, only_run, outcome, records, resume, train
from dying import Killed, dying

from estep.runs import checkpoint
from estep.runs.folder import RunFolder
from estep.training.session import Session

MIXED = {
    "normalise": True,
    "normalise_rewards": True,
    "num_envs": 2,
    "steps": 160,
    "warmup_steps": 50,
    "eval_every": 70,
    "checkpoint_every": 30,
    "log_every": 50,
}
"""Every group of state is in use, and nothing falls on the same step."""
WITH_MODEL = "mve", "iterative-mve", "kl-mve", "smcp", "pp-smc"


@pytest.fixture(autouse=True)
def dead(monkeypatch):
    """A process that is killed saves nothing, unlike one that an exception ends."""
    monkeypatch.setattr(Session, "rescue", lambda session: None)


def stopping(after):
    """A stop that asks for a clean end at the n-th safe point."""
    left = iter(range(after - 1, -(10**6), -1))
    return lambda: next(left) <= 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run."""
    return train(tmp_path_factory.mktemp("whole"), **MIXED).run_dir


def interrupted(out, *kills, **changes):
    """The same run, killed in turn after so many safe points."""
    with pytest.raises(Killed):
        train(out, stop=dying(kills[0]), **{**MIXED, **changes})
    for kill in kills[1:]:
        with pytest.raises(Killed):
            resume(only_run(out), dying(kill))
    return resume(only_run(out)).run_dir


def programs(parts):
    """Run child.py, whose processes keep to one core and so to one thread; the exit code of each.

    They have this process's XLA_FLAGS, so that they share its compiled programs.
    """
    command = [sys.executable, str(Path(__file__).parents[1] / "helpers" / "child.py"), json.dumps(parts)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300, check=True)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "names"),
    [
        ("sac", ["SIGKILL", "SIGTERM"]),
        pytest.param("iterative-sac", ["SIGKILL"] * 2, marks=pytest.mark.long),  # compiles for long
        *(pytest.param(name, ["SIGKILL"] * 2, marks=pytest.mark.long) for name in WITH_MODEL),
    ],
)
def test_a_process_ended_at_random_moments_goes_on_to_the_same_bits(tmp_path, algorithm, names):
    chance = random.Random(algorithm)
    changes = {"steps": 160, "checkpoint_every": 30, "eval_every": 70}
    ends = [(name, chance.randrange(20, 80), chance.uniform(0, 0.05)) for name in names]
    parts = [(str(tmp_path / "a"), algorithm, changes, None)]
    parts += [(str(tmp_path / "b"), algorithm, changes, end) for end in (*ends, None)]
    codes = {"SIGKILL": -signal.SIGKILL, "SIGTERM": 75}
    assert programs(parts) == [0, *[codes[name] for name in names], 0]
    assert outcome(only_run(tmp_path / "b")) == outcome(only_run(tmp_path / "a"))


def test_a_resume_of_a_resume_ends_in_the_same_bits(tmp_path, whole):
    assert outcome(interrupted(tmp_path, 17, 31, 18, 9, 16)) == outcome(whole)


def test_a_stopped_run_says_so_and_ends_in_the_same_bits(tmp_path, whole):
    stopped = train(tmp_path, stop=stopping(33), **MIXED)
    assert (stopped.status, stopped.env_steps) == ("stopped", 66)
    ended = RunFolder.open(stopped.run_dir).read_run()
    assert (ended["status"], ended["exit_code"], ended["result"]["env_steps"]) == ("stopped", 75, 66)
    assert resume(stopped.run_dir).status == "done"
    assert outcome(stopped.run_dir) == outcome(whole)


def test_a_kill_before_the_first_checkpoint_starts_again_and_says_so(tmp_path, whole):
    with pytest.raises(Killed):
        train(tmp_path, stop=dying(12), **MIXED)
    notes = Notes()
    assert resume(only_run(tmp_path), report=notes).status == "done"
    assert notes.said("starts again")
    assert outcome(only_run(tmp_path)) == outcome(whole)


def test_while_a_run_goes_on_its_record_says_running(tmp_path):
    stopped = train(tmp_path, stop=stopping(5), **MIXED)
    seen = []
    resume(stopped.run_dir, lambda: bool(seen.append(RunFolder.open(stopped.run_dir).read_run()) or True))
    assert [(one["status"], one["exit_code"], one["ended"]) for one in seen] == [("running", None, None)]


@pytest.mark.parametrize(
    "changes",
    [
        {"checkpoint_every": 0, "eval_every": 0, "log_every": 7},
        {"checkpoint_every": 8, "eval_every": 50, "log_every": 1000},
    ],
)
def test_saving_evaluating_and_logging_do_not_change_a_bit(tmp_path, whole, changes):
    other = train(tmp_path, **{**MIXED, **changes}).run_dir
    for part in ("params", "optim", "replay", "env", "stats"):
        assert digest(other, part) == digest(whole, part)
    assert records(other)["episodes.csv"] == records(whole)["episodes.csv"]


def zeros(file, *parts):
    """Lose the arrays of one file whose names have one of these parts."""

    def lose(loaded, replay):
        chosen = [name for name in loaded.tensors[file] if any(part in name for part in parts)]
        assert chosen
        for name in chosen:
            loaded.tensors[file][name] = np.zeros_like(loaded.tensors[file][name])

    return lose


def other(group, **values):
    """Replace plain numbers."""
    return lambda loaded, replay: loaded.meta[group].update(values)


def no_replay(loaded, replay):
    """Lose every transition, but not how many there were."""
    if replay is not None:
        replay.load_chunk(0, {name: np.zeros_like(array) for name, array in replay.chunk(0).items()})
        replay.load_counters(replay.counters())


def no_return(loaded, replay):
    """Lose the sum of rewards of the open episodes."""
    for one in loaded.meta["episodes"]:
        one["total"] = 0.0


LOST = {
    "nothing": lambda loaded, replay: None,
    "policy": zeros("params", "inference.model"),
    "critic": zeros("params", "likelihood.model"),
    "slow critic": zeros("params", "target"),
    "alpha": zeros("params", "log_alpha"),
    "updates of each component": zeros("params", "count"),
    "optimisers": zeros("optim", ""),
    "moments": zeros("stats", "squares"),
    "open episode": zeros("env", "actions"),
    "its return": no_return,
    "replay": no_replay,
    "number of updates": other("counts", updates=0),
    "number of steps": other("counts", env_steps=118),
    "number of episodes": other("counts", episodes=7),
    "number of skips": other("counts", skipped=1),
    "tally": other("tally", sums={}, updates=0),
    "bad transitions": other("bad", seen=[0]),
    "best": other("session", best=1e9),
}


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """The same run killed at 122 of its 160 steps, with a checkpoint at 120."""
    out = tmp_path_factory.mktemp("cut")
    with pytest.raises(Killed):
        train(out, stop=dying(61), **MIXED)
    return only_run(out)


@pytest.mark.parametrize("group", LOST)
def test_the_comparison_sees_the_loss_of_each_group(tmp_path, whole, cut, group, monkeypatch):
    run_dir = Path(shutil.copytree(cut, tmp_path / "run"))
    sound = checkpoint.load

    def load(path, expected, replay):
        loaded = sound(path, expected, replay)
        LOST[group](loaded, replay)
        return loaded

    monkeypatch.setattr(checkpoint, "load", load)
    resume(run_dir)
    monkeypatch.undo()
    same = outcome(run_dir) == outcome(whole)
    assert same == (group == "nothing")


def test_an_open_episode_of_a_simulator_goes_on(tmp_path):
    """HalfCheetah, acting with the policy but never updating, killed in the middle of its first episode."""
    changes = {
        "env": "HalfCheetah-v5",
        "steps": 60,
        "warmup_steps": 20,
        "updates_per_call": 1000,
        "checkpoint_every": 25,
    }
    changes |= {"eval_every": 0, "eval_episodes": 1}
    one = train(tmp_path / "a", **changes).run_dir
    with pytest.raises(Killed):
        train(tmp_path / "b", stop=dying(40), **changes)
    notes = Notes()
    other = resume(only_run(tmp_path / "b"), report=notes).run_dir
    assert notes.said("resumed  at 25 steps")
    assert not notes.said("could not be restored exactly")
    assert outcome(one) == outcome(other)
