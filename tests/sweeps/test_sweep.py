"""`estep sweep` on this machine, with a trainer that takes milliseconds."""

import json
import os
import signal
import subprocess
import sys
import time

import fake_sweep
import pytest

from estep.runs import storage
from estep.runs.folder import take_lock
from estep.sweeps import cancel, drive, lines, local, plan, process, status
from estep.sweeps.lines import Consent, Task
from estep.sweeps.local import Local
from estep.sweeps.plan import make

STEPS = ("--steps", "20")
FOREVER = ("--steps", "20", "--gamma", "0.5")


def until(holds, seconds=60.0):
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def background(*words):
    """`estep` in a process of its own."""
    words = [sys.executable, fake_sweep.__file__, *map(str, words)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_every_run_of_a_plan_is_trained_once_and_kept(place):
    ended = place.plan(*STEPS, "--seeds", "0..2")
    assert ended.code == 0
    assert ended.record["counts"]["done"] == 3
    before = place.ends()
    assert len(set(before.values())) == 3
    again = place.sweep(str(place.path), "--json")
    assert (again.code, place.ends(), place.starts()) == (0, before, 3)
    assert json.loads((place.path / "status.json").read_text())["counts"]["done"] == 3
    more = place.plan(*STEPS, "--seeds", "0..3")
    assert (more.record["counts"]["done"], place.starts()) == (4, 4)
    assert before.items() <= place.ends().items()


def test_a_run_that_has_begun_cannot_be_changed(place):
    place.plan(*STEPS, "--seeds", "0")
    before = (place.path / plan.PLAN).read_bytes()
    refused = place.plan("--steps", "10", "--seeds", "0..1")
    assert refused.code == 2
    assert "--steps is 20 there and 10 here" in refused.record["error"]
    assert (place.path / plan.PLAN).read_bytes() == before


def test_with_more_steps_every_run_goes_on_as_if_it_had_not_ended(place):
    assert place.plan("--steps", "40", "--seeds", "0..2").code == 0
    whole, other = place.ends(), place.path.with_name("other")
    place.path = other
    place.plan(*STEPS, "--seeds", "0..1")
    (half,) = {name: end for name, end in place.ends().items() if "-s1-" in name}.items()
    longer = place.plan("--steps", "40", "--seeds", "0,2")
    assert longer.code == 0
    assert place.starts() == 4
    assert place.ends() == {**whole, half[0]: half[1]}
    assert place.states == {"done": 3}


def test_runs_that_are_to_go_on_are_not_done(place):
    place.plan(*STEPS, "--seeds", "0..1")
    longer = [run._replace(settings={**run.settings, "steps": 40}) for run in plan.read(place.path)]
    plan.write(place.path, plan.extend(plan.read(place.path), longer, lambda run: True))
    assert place.states == {"stopped": 2}
    assert place.sweep(str(place.path)).code == 0
    assert place.states == {"done": 2}


def test_runs_that_failed_are_listed_and_tried_again_when_asked(place):
    grid = ("--grid", "gamma=0.9,0.1,0.2,0.4")
    ended = place.plan(*STEPS, "--seeds", "0", *grid)
    errors = {one["exit_code"]: one["error"] for one in ended.record["failed"]}
    assert ended.code == 2  # of the first in the plan
    assert errors[2] == "A flag is wrong. Give another."
    assert errors[4] == "The run failed. Look at it."
    assert "ended 3 times without a result" in errors[1]
    assert place.starts() == 2
    again = place.sweep(str(place.path))
    assert again.code != 0
    assert place.starts() == 2
    place.sweep(str(place.path), "--retry", "failed")
    assert place.starts() == 3


def test_a_full_disk_is_tried_again_by_the_next_sweep(place):
    assert place.plan(*STEPS, "--seeds", "0", "--gamma", "0.3").code == 6
    assert place.starts() == 1
    assert place.sweep(str(place.path)).code == 6
    assert place.starts() == 2


def test_a_sweep_that_is_asked_to_stop_stops_its_runs_and_goes_on(place):
    whole = place.plan("--steps", "2000", "--seeds", "0..1")
    assert whole.code == 0
    ends, other = place.ends(), place.path.with_name("other")
    plan_words = ("sweep", "sac", "--env", "Pendulum-v1", "--steps", "2000", "--seeds", "0..1", "--out", other)
    with background(*plan_words) as process:
        until(lambda: len(list(other.glob("runs/*/metrics.jsonl"))) == min(2, len(os.sched_getaffinity(0))))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 75
    place.path = other
    assert set(place.states) & {"stopped", "waiting"}  # one of them may have ended before the signal came
    assert place.sweep(str(other)).code == 0
    assert place.ends() == ends


def test_a_second_sweep_is_told_who_has_the_folder(place):
    place.plan(*STEPS, "--seeds", "0")
    with drive.locked(place.path):
        refused = place.sweep(str(place.path), "--json")
    assert refused.code == 3
    assert f"process {os.getpid()} on host" in refused.record["error"]


def test_cancel_ends_the_sweep_and_the_runs_that_it_left(place):
    place.plan(*STEPS, "--seeds", "0")
    words = ("sweep", "sac", "--env", "Pendulum-v1", *FOREVER, "--seeds", "1..2", "--jobs", "2", "--out", place.path)
    with background(*words) as sweep:
        # Both: a process that has only begun holds no folder yet, so that cancel cannot know of it.
        until(lambda: place.states.get("running") == 2 and len(list(place.path.glob("runs/*/metrics.jsonl"))) == 3)
        sweep.kill()
    until(lambda: place.states["running"] >= 1)
    ended = place.sweep("cancel", str(place.path), "--json")
    assert ended.code == 75
    assert place.states.get("running") is None


def test_a_run_that_another_sweep_left_behind_is_waited_for(place):
    """It counts as one of the processes, and is not trained a second time."""
    run = make("sac", ["Pendulum-v1"], 0, {}, "auto", {"steps": 300})
    place.path.mkdir()
    plan.write(place.path, [run])
    left = process.start(Task(place.path, run, Consent()))
    until((place.path / "runs" / run.id / "run.json").is_file)
    assert place.sweep(str(place.path)).code == 0
    assert left.wait(10) == 0
    assert place.starts() == 1


def test_the_first_run_of_a_shape_compiles_for_the_others(tmp_path, monkeypatch):
    started = []

    class Process:
        pid = 0

    monkeypatch.setattr(local.process, "start", lambda task: started.append(task.run) or Process())
    monkeypatch.setattr(local.os, "wait4", lambda *_: (0, 0, None))
    runs = [make("sac", ["A-v0"], seed, {"gamma": gamma}, "none", {}) for gamma in (0.9, 0.8) for seed in (0, 1)]
    engine = Local(jobs=4)
    tasks = [Task(tmp_path, run, Consent()) for run in runs]
    assert engine.submit(tasks) == [runs[0].id, runs[2].id]
    assert engine.submit([tasks[1], tasks[3]]) == []
    monkeypatch.setattr(status, "updates", lambda folder: 5 if folder.name == runs[0].id else 0)
    assert engine.submit([tasks[1], tasks[3]]) == [runs[1].id]


def test_no_run_is_started_for_which_there_is_no_memory(tmp_path, monkeypatch):
    class Process:
        pid = 0

    monkeypatch.setattr(local.process, "start", lambda task: Process())
    monkeypatch.setattr(local, "memory_limit", lambda: 1 << 30)
    tasks = [Task(tmp_path, make("sac", [env], 0, {}, "none", {}), Consent()) for env in ("A-v0", "B-v0")]
    assert Local(jobs=2).submit(tasks) == [tasks[0].run.id]  # the first is tried in any case
    monkeypatch.setattr(local, "memory_limit", lambda: 1 << 34)
    assert len(Local(jobs=2).submit(tasks)) == 2


def test_a_process_has_one_core_and_the_largest_run_is_first(place):
    words = ("--seeds", "0", "--grid", "steps=20,40", "--jobs", "1")
    ended = place.plan(*words)
    lines_of = [line.split()[1] for line in ended.err.splitlines() if line.startswith("done")]
    steps = {run.id: run.values["steps"] for run in plan.read(place.path)}
    assert [steps[name] for name in lines_of] == [40, 20]
    run = make("sac", ["Pendulum-v1"], 9, {}, "auto", {"gamma": 0.5, "steps": 20})
    child = process.start(Task(place.path, run, Consent()))
    try:
        assert len(os.sched_getaffinity(child.pid)) == 1
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        ((), 2, "Neither algorithms nor the folder"),
        (("sacc", "--env", "Pendulum-v1", "--out", "new"), 2, "Did you mean sac?"),
        (("sac", "--env", "Pendulum-v1"), 2, "Give it: --out SWEEP"),
        (("sac", "--env", "Pendulum-v1", "--out", "full"), 2, "not a sweep and not empty"),
        (("sac", "--env", "Pendulum-v1", "--seeds", "0..1000", "--out", "new"), 2, "1,001 runs"),
        (("sac", "--env", "Pendulum-v1", "--seed", "0", "--out", "new"), 2, "--seed"),
        (("sac", "--env", "Pendulum-v1", "--set", "gamma", "--out", "new"), 2, "is not name=value"),
        (("sac", "--env", "Pendulum-v1", "--gamma", "0.9", "--set", "gamma=0.8", "--out", "new"), 2, "Give it once"),
        (("sac", "--env", "Pendulum-v1", "--jobs", "0", "--out", "new"), 2, "--jobs"),
        (("sac", "--env", "Pendulum-v1", "--print", "--out", "new"), 2, "--on slurm"),
        (("sac", "--env", "Pendulum-v1", "--on", "slurm", "--out", "new"), 2, "There is no sbatch"),
        (("full",), 3, "it has no plan.json"),
        (("some/where",), 3, "it has no plan.json"),
        (("status", "full"), 3, "it has no plan.json"),
        (("nothing.toml",), 2, "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(place, monkeypatch, words, code, what):
    (place.path.parent / "full").mkdir()
    (place.path.parent / "full" / "file").write_text("")
    monkeypatch.setenv("PATH", str(place.path.parent))
    ended = place.sweep(*words, "--json")
    assert ended.code == code
    assert what in ended.record["error"]
    assert not (place.path.parent / "new").exists()


def test_a_plan_with_modules_needs_consent(place):
    place.path.mkdir()
    plan.write(place.path, [make("mine:Algorithm", ["Pendulum-v1"], 0, {}, "auto", {})])
    refused = place.sweep(str(place.path), "--json")
    assert refused.code == 2
    assert "imports mine" in refused.record["error"]


def test_train_with_seeds_is_a_sweep(place):
    from commandline import command

    words = ("--steps", "20", "--seeds", "0..1", "--run-dir", str(place.path), "--json")
    ended = command("train", "sac", "--env", "Pendulum-v1", *words)
    assert (ended.code, ended.record["counts"]["done"]) == (0, 2)
    refused = command("train", "sac", "--env", "Pendulum-v1", "--seeds", "0..1", "--seed", "1")
    assert refused.code == 2


def test_a_dry_run_says_what_it_takes_and_writes_nothing(place):
    place.plan(*STEPS, "--seeds", "0")
    before = sorted(place.path.rglob("*"))
    ended = place.sweep("sac", "--env", "Pendulum-v1", *STEPS, "--seeds", "0..2", "--out", str(place.path), "--dry-run")
    assert "3, of which 2 are not done" in ended.out
    assert f"{2 * 1.0 / 3600:.3g} core-hours" in ended.out  # a fake run says that it took a second
    assert ended.out.count("estep train sac") == 2
    assert sorted(place.path.rglob("*")) == before


def test_a_holder_that_does_not_end_is_named(place, monkeypatch):
    place.path.mkdir()
    lock = take_lock(place.path)
    monkeypatch.setattr(cancel, "PATIENCE", 0.1)
    monkeypatch.setattr(cancel.os, "kill", lambda *_: None)
    with pytest.raises(cancel.RejectedInput, match="does not end"):
        cancel.cancel(place.path, [])
    storage.close(lock)


def test_the_adapters_are_short():
    from test_architecture import code_lines

    for name in ("local", "slurm", "on_ray"):
        assert code_lines(lines_path(name)) < 100


def lines_path(name):
    """The file of an engine."""
    from pathlib import Path

    return Path(lines.__file__).with_name(f"{name}.py")
