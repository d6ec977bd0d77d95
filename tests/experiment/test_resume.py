"""A run that was cut ends as if it had not been, to the bit (D1, D3-D5 of the reliability contract)."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from child import config, digest, metrics, only_run, outcome, records, resume, table, train, Notes

from estep.errors import RejectedInput, UsageError
from estep.experiment import checkpoint, snapshot
from estep.experiment.folder import RunFolder

MIXED = {"normalise": True, "num_envs": 2, "steps": 160, "warmup": 50, "eval_every": 70, "checkpoint_every": 30}
"""Every group of state is in use, and nothing falls on the same step."""


class Killed(BaseException):
    """Ends a run at once, as far as this process allows."""


def dying(after):
    """A stop that kills at the n-th safe point."""
    left = iter(range(after - 1, -1, -1))

    def stop():
        if next(left) == 0:
            raise Killed
        return False

    return stop


def stopping(after):
    """A stop that asks for a clean end at the n-th safe point."""
    left = iter(range(after - 1, -10**6, -1))
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
    """Run child.py on one core and one thread; the exit code of each of its processes."""
    command = [sys.executable, str(Path(__file__).parent / "child.py"), json.dumps(parts)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300, check=True)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "names"), [("sac", ["SIGKILL"] * 3), ("iterative-sac", ["SIGKILL", "SIGTERM"])])
def test_a_process_ended_at_random_moments_goes_on_to_the_same_bits(tmp_path, algorithm, names):
    chance = random.Random(algorithm)
    changes = {"steps": 260, "checkpoint_every": 30, "eval_every": 110}
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
    assert notes.said("starting again")
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
        {"checkpoint_every": 2, "eval_every": 50, "log_every": 1000},
    ],
)
def test_saving_evaluating_and_logging_do_not_change_a_bit(tmp_path, whole, changes):
    other = train(tmp_path, **{**MIXED, **changes}).run_dir
    for part in ("params", "optim", "replay", "env", "stats"):
        assert digest(other, part) == digest(whole, part)
    assert records(other)["episodes.csv"] == records(whole)["episodes.csv"]


def lost_tensors(file, choose=lambda name: True):
    """A snapshot whose arrays of one file are zero where chosen."""
    sound = snapshot.tensors

    def tensors(trainer):
        found = sound(trainer)
        zero = {name: np.zeros_like(array) for name, array in found[file].items() if choose(name)}
        assert zero
        return {**found, file: {**found[file], **zero}}

    return "tensors", tensors


def lost_meta(name, value):
    """A snapshot with other plain numbers."""
    sound = snapshot.meta

    def meta(trainer):
        found = sound(trainer)
        return {**found, name: value(found[name])}

    return "meta", meta


LOST = {
    "slow critic": lambda: lost_tensors("params", lambda name: "target" in name),
    "policy": lambda: lost_tensors("params", lambda name: name.startswith("inference.model")),
    "alpha": lambda: lost_tensors("params", lambda name: name.startswith("temperature")),
    "optimiser": lambda: lost_tensors("optim"),
    "adam's count": lambda: lost_tensors("optim", lambda name: name.endswith("count")),
    "moments": lambda: lost_tensors("stats", lambda name: name == "squares"),
    "open episode": lambda: lost_tensors("env", lambda name: name.endswith("actions")),
    "updates": lambda: lost_meta("counts", lambda counts: {**counts, "updates": counts["updates"] - 4}),
    "episodes": lambda: lost_meta("counts", lambda counts: {**counts, "episodes": counts["episodes"] + 1}),
    "episode's return": lambda: lost_meta("episodes", lambda open: [{**one, "total": 0.0} for one in open]),
    "tally": lambda: lost_meta("tally", lambda tally: {"sums": {}, "updates": 0}),
    "bad transitions": lambda: lost_meta("bad", lambda bad: {**bad, "seen": [0]}),
    "session": lambda: ("session", None),
    "replay": lambda: ("replay", None),
}


@pytest.mark.parametrize("group", LOST)
def test_the_comparison_sees_the_loss_of_each_group(tmp_path, whole, group, monkeypatch):
    with pytest.raises(Killed):
        train(tmp_path, stop=dying(62), **MIXED)
    name, broken = LOST[group]()
    sound = checkpoint.load

    def load(path, expected, replay):
        loaded = sound(path, expected, None if name == "replay" and replay is not None else replay)
        if name == "replay" and replay is not None:
            replay.load_chunk(0, {k: np.zeros_like(v) for k, v in replay.chunk(0).items()})
            replay.load_counters({"head": [60, 60], "open": [1, 1], "tail": [0, 0]})
        if name == "session":
            loaded.meta["session"]["best"] = 1e9
        return loaded

    if broken is None:
        monkeypatch.setattr(checkpoint, "load", load)
        resume(only_run(tmp_path))
    else:
        run_dir = only_run(tmp_path)
        monkeypatch.setattr(snapshot, name, broken)
        with pytest.raises(Killed):  # saves at least once, with the loss
            resume(run_dir, dying(16))
        monkeypatch.undo()
        resume(run_dir)
    monkeypatch.undo()
    try:
        assert outcome(only_run(tmp_path)) == outcome(whole)
    except AssertionError:
        return
    pytest.fail(f"{group} was lost, and nothing shows it")
