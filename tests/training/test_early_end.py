"""Whatever ends a run early, a sound agent is saved first, and the run goes on from there."""

import contextlib
import functools
import os
import signal
import threading

import gymnasium
import numpy as np
import pytest
from child import SMALL, Notes, config, job, only_run, resume, table, train
from faulty import Counter, Plain

import estep
from estep.errors import EnvironmentFailure
from estep.runs import checkpoint
from estep.runs.folder import RunFolder
from estep.training import run

WARM = {"steps": 80, "warmup_steps": 80, "checkpoint_every": 0, "eval_every": 0, "eval_episodes": 0}
"""A run that only explores, so that nothing is compiled."""


class Ends(Counter):
    """Raises at a call, counted over all its instances."""

    calls, at, error, where = 0, 50, RuntimeError("connection lost"), "step"

    @classmethod
    def count(cls, where):
        cls.calls += 1
        if where == cls.where and cls.calls >= cls.at:
            raise cls.error

    def step(self, action):
        self.count("step")
        return super().step(action)

    def reset(self, **options):
        self.count("reset")
        return super().reset(**options)


@pytest.fixture(params=["step", "reset"])
def ends(request):
    return type("Ends", (Ends,), {"where": request.param})


@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_failing_environment_loses_nothing(ends, num_envs, tmp_path):
    notes = Notes()
    with pytest.raises(EnvironmentFailure, match="connection lost"):
        train(tmp_path, env=ends, report=notes, num_envs=num_envs, **WARM)
    folder = only_run(tmp_path)
    saved = checkpoint.newest(folder)[0]
    steps = int(saved.name[5:])
    assert 30 // num_envs * num_envs - 2 * num_envs <= steps < 80
    assert notes.said(f"saved    {saved.name}")
    record = RunFolder.open(folder).read_run()
    assert (record["status"], record["exit_code"]) == ("error", 5)
    assert "in step\n" in record["traceback"]  # of the environment, by which its line is found
    # What the environments did after the last stored step is not in replay, so their episodes are cut there.
    ends.at = 10**9
    notes = Notes()
    result = resume(folder, env=ends, report=notes)
    assert (result.status, result.env_steps) == ("done", 81 if num_envs == 3 else 80)
    assert RunFolder.open(folder).read_run()["traceback"] is None
    assert notes.said("could not be restored exactly")
    assert checkpoint.load(checkpoint.newest(folder)[0], None, None).meta["counts"]["env_steps"] == result.env_steps


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_environment_that_ends_the_process_loses_nothing(error, tmp_path):
    env = type("Ends", (Ends,), {"error": error})
    with pytest.raises((KeyboardInterrupt, EnvironmentFailure)):
        train(tmp_path, env=env, **WARM)
    folder = only_run(tmp_path)
    assert checkpoint.newest(folder)[0]
    status = RunFolder.open(folder).read_run()["status"]
    assert status == ("stopped" if isinstance(error, KeyboardInterrupt) else "error")


def test_a_failing_evaluation_loses_nothing(tmp_path):
    class Judged(Counter):
        made = 0

        def __init__(self):
            super().__init__()
            Judged.made += 1
            self.first = Judged.made == 1

        def step(self, action):
            if not self.first:
                raise RuntimeError("camera lost")
            return super().step(action)

    with pytest.raises(EnvironmentFailure, match="camera lost"):
        train(tmp_path, env=Judged, **{**WARM, "eval_episodes": 1})
    assert checkpoint.newest(only_run(tmp_path))[0].name == "step_80"


def test_a_hung_environment_loses_nothing(tmp_path):
    hung = threading.Event()

    class Hangs(Counter):
        calls = 0

        def step(self, action):
            Hangs.calls += 1
            if Hangs.calls == 50:
                hung.wait(60)
                raise RuntimeError("let go")
            return super().step(action)

    told = []
    context = job()._replace(on_hang=lambda message: (told.append(message), hung.set()))
    with pytest.raises(EnvironmentFailure, match="let go"):
        run.train(SMALL["sac"], Hangs, config(**WARM, env_timeout=0.2), out=tmp_path, preset=None, context=context)
    assert "has not answered for 0.2 s" in told[0]
    assert checkpoint.newest(only_run(tmp_path))[0].name == "step_49"


def test_what_is_not_sound_is_not_saved(tmp_path, monkeypatch):
    from estep.data.replay import Replay

    def fails(*unused):
        raise MemoryError

    monkeypatch.setattr(Replay, "add", fails)
    with pytest.raises(MemoryError):
        train(tmp_path, env=Counter, **WARM)
    assert checkpoint.newest(only_run(tmp_path))[0] is None
    assert RunFolder.open(only_run(tmp_path)).read_run()["error"] == "MemoryError"


def test_a_disk_that_fails_then_does_not_hide_the_error(tmp_path, monkeypatch):
    def full(*unused, **unused_too):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "save", full)
    notes = Notes()
    with pytest.raises(EnvironmentFailure, match="connection lost"):
        train(tmp_path, env=type("Ends", (Ends,), {}), report=notes, **WARM)
    assert notes.said("could not be saved: disk full")


def test_another_working_directory_changes_nothing(tmp_path, monkeypatch):
    class Wanders(Plain):
        def reset(self, **options):
            os.chdir("/")
            return super().reset(**options)

    monkeypatch.chdir(tmp_path)
    result = train("runs", env=Wanders, **WARM)
    assert result.run_dir.parent.parent.parent == tmp_path / "runs"


def test_without_evaluation_the_best_policy_is_the_last(tmp_path):
    result = train(tmp_path, env=Counter, **WARM)
    assert (result.eval_mean, result.eval_episodes) == (None, None)
    assert checkpoint.locate(result.run_dir, "best").name == "step_80"
    assert not (result.run_dir / "best").exists()


def test_evaluations_of_a_run_have_episodes_of_their_own(tmp_path):
    seeds = []

    class Seeded(Counter):
        def reset(self, *, seed=None, options=None):
            seeds.append(seed)
            return super().reset(seed=seed)

    changes = {**WARM, "eval_episodes": 2, "eval_every": 40, "steps": 120, "warmup_steps": 120}
    with contextlib.suppress(StopIteration):
        train(tmp_path, env=Seeded, **changes)
    repeated = {seed for seed in seeds if seeds.count(seed) > 1}
    assert len(repeated) == 1  # the start that is compared before training
    assert len(seeds) > 24 + 6
    assert np.isfinite(seeds).all()


@pytest.fixture
def heeding_ctrl_c():
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_ctrl_c")
def test_ctrl_c_saves_the_run_first_and_ends_it_then(tmp_path):
    class Interrupted(Counter):
        calls = 0

        def step(self, action):
            Interrupted.calls += 1
            if Interrupted.calls == 50:
                os.kill(os.getpid(), signal.SIGINT)
            return super().step(action)

    before = signal.getsignal(signal.SIGINT)
    small = {name: value for name, value in WARM.items() if name != "checkpoint_every"}
    with pytest.raises(KeyboardInterrupt):
        estep.train("sac", Interrupted, out=tmp_path, report=None, **small)
    assert signal.getsignal(signal.SIGINT) is before
    assert checkpoint.newest(only_run(tmp_path))[0].name == "step_50"
    assert RunFolder.open(only_run(tmp_path)).read_run()["status"] == "stopped"


def test_a_folder_has_the_name_of_what_a_function_makes_or_a_name_that_is_given(tmp_path):
    made = lambda: gymnasium.make("Pendulum-v1")
    assert train(tmp_path, env=made, **WARM).run_dir.parent.name == "Pendulum-v1"
    assert train(tmp_path, env=functools.partial(Counter, length=9), **WARM).run_dir.parent.name == "Counter"
    policy = estep.train("sac", made, name="swing up", out=tmp_path, report=None, **WARM)
    assert policy.run_dir.parent.name == "swing-up"


@pytest.mark.parametrize(
    ("every", "minutes", "saved"), [(1000, 1e-9, range(1, 11)), (1000, 0.0, [10]), (1000, 5.0, [10]), (0, 1e-9, [10])]
)
def test_a_checkpoint_is_due_by_time_too(every, minutes, saved, tmp_path):
    changes = {"checkpoint_every": every, "checkpoint_minutes": minutes, "keep_checkpoints": 0}
    train(tmp_path, env=Counter, **{**WARM, "steps": 10, **changes})
    names = {path.name for path in (only_run(tmp_path) / "checkpoints").iterdir()}
    assert names == {f"step_{step}" for step in saved}


def test_the_minutes_begin_with_the_last_checkpoint(tmp_path, monkeypatch):
    from estep.training import session

    now = [0.0]
    monkeypatch.setattr(session.time, "monotonic", lambda: now[0])

    class Slow(Counter):
        def step(self, action):
            now[0] += 40.0
            return super().step(action)

    changes = {"checkpoint_every": 1000, "checkpoint_minutes": 2.0, "keep_checkpoints": 0, "steps": 10}
    train(tmp_path, env=Slow, **{**WARM, **changes})
    names = {path.name for path in (only_run(tmp_path) / "checkpoints").iterdir()}
    assert names == {"step_3", "step_6", "step_9", "step_10"}


def test_no_failure_costs_more_than_five_minutes_of_training(tmp_path, monkeypatch):
    """An environment of five steps a second, by a clock of the test: at every step of training and of evaluation, the
    work since the last checkpoint is counted, without the evaluation that goes on, which is repeated."""
    from estep.training import session, trainer

    now, saved, lost, began = [0.0], [0.0], [], [None]
    monkeypatch.setattr(session.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(trainer.time, "perf_counter", lambda: now[0])
    save, evaluate = checkpoint.save, session.evaluate

    def saving(*arguments):
        saved[0] = now[0]
        return save(*arguments)

    def evaluating(*arguments, **options):
        began[0] = now[0]
        scores = evaluate(*arguments, **options)
        began[0] = None
        return scores

    class Slow(Counter):
        def step(self, action):
            now[0] += 0.2
            lost.append((now[0] if began[0] is None else began[0]) - saved[0])
            return super().step(action)

    monkeypatch.setattr(checkpoint, "save", saving)
    monkeypatch.setattr(session, "evaluate", evaluating)
    changes = {"steps": 6000, "warmup_steps": 6000, "checkpoint_every": 10_000, "checkpoint_minutes": 5.0}
    changes |= {"eval_every": 1300, "eval_episodes": 10, "max_episode_steps": 200}
    train(tmp_path, env=lambda: Slow(length=200), **{**WARM, **changes})
    assert now[0] > 0.99 * (6000 + 5 * 2000) * 0.2
    assert 200 < max(lost) <= 300 + 0.4


@pytest.mark.long
def test_an_evaluation_that_was_interrupted_is_made_after_all(tmp_path, monkeypatch):
    """The run is saved before a long evaluation. A process that ends in it leaves no row, and the next one adds it."""
    from estep.training import session

    class Killed(BaseException):
        pass

    def killed(*arguments, **options):
        raise Killed

    changes = {**WARM, "checkpoint_every": 1000, "checkpoint_minutes": 1e-9, "eval_every": 40, "eval_episodes": 1}
    straight = train(tmp_path / "straight", env=lambda: Plain(length=7), **changes).run_dir
    with monkeypatch.context() as patch:
        patch.setattr(session, "evaluate", killed)
        patch.setattr(session, "rescue", lambda *unused: None)
        with pytest.raises(Killed):
            train(tmp_path / "killed", env=lambda: Plain(length=7), **changes)
    folder = only_run(tmp_path / "killed")
    assert checkpoint.newest(folder)[0].name == "step_40"
    resume(folder, env=lambda: Plain(length=7))
    assert len(table(folder, "eval.csv")) == len(table(straight, "eval.csv")) == 2
    for mine, theirs in zip(table(folder, "eval.csv"), table(straight, "eval.csv"), strict=True):
        assert (mine["env_steps"], mine["mean"]) == (theirs["env_steps"], theirs["mean"])


class Unprintable(Exception):
    """An exception that raises when it is printed."""

    def __str__(self):
        raise RuntimeError("no text")


class NoException(BaseException):
    """What no `except Exception` sees."""


@pytest.mark.parametrize("error", [Unprintable(), NoException("odd"), GeneratorExit(), SystemExit(0), MemoryError()])
@pytest.mark.parametrize("where", ["step", "reset"])
def test_whatever_an_environment_raises_is_an_environment_failure(error, where, tmp_path):
    env = type("Ends", (Ends,), {"error": error, "where": where, "at": 5})
    with pytest.raises(EnvironmentFailure, match=type(error).__name__) as caught:
        train(tmp_path, env=env, **{**WARM, "steps": 40})
    assert caught.value.exit_code == 5
    assert RunFolder.open(only_run(tmp_path)).read_run()["exit_code"] == 5
    assert checkpoint.newest(only_run(tmp_path))[0]


@pytest.mark.parametrize("error", [Unprintable(), NoException("odd"), SystemExit(0)])
def test_whatever_a_constructor_or_close_raises_is_no_raw_error(error, tmp_path):
    def fail(*unused):
        raise error

    with pytest.raises(EnvironmentFailure, match=type(error).__name__):
        train(tmp_path, env=type("Ends", (Counter,), {"__init__": fail}), **WARM)
    with pytest.warns(RuntimeWarning, match=type(error).__name__):
        train(tmp_path, env=type("Ends", (Counter,), {"close": fail}), **{**WARM, "steps": 5})
