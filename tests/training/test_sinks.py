"""What is no part of a run's results may fail in every way. Its results may not fail in silence.

With SINKS_TABLE=FILE and `-n 0` the outcomes are written to a CSV, as tests/helpers/sinks.py does.
"""

import contextlib
import errno
import io
import os
import pty
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from child import SMALL, Notes, config, only_run, outcome
from faulty import Plain

from estep import terminal
from estep.errors import StorageFailure
from estep.plots import curves, views
from estep.policy import progress
from estep.policy.job import RunContext, Silent, never_stop
from estep.report import live
from estep.runs import storage, tables
from estep.runs.folder import RunFolder
from estep.training import board, run, sinks

WARM = {"steps": 80, "warmup_steps": 80, "checkpoint_every": 40, "eval_every": 0, "eval_episodes": 0}
"""A run that only explores, so that nothing is compiled."""
RESULTS = ("metrics.jsonl", "eval.csv", "episodes.csv", "checkpoints")
ERRORS = {"full": errno.ENOSPC, "read-only": errno.EROFS, "broken": errno.EIO}


HEAD = "sink", "failure", "status", "exit_code", "env_steps", "bytes_outside"
ROWS = []


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    if "SINKS_TABLE" in os.environ:
        tables.write(Path(os.environ["SINKS_TABLE"]), HEAD, ROWS)


def noted(sink, failure, run_dir, outside=None):
    """The record of a run, whose end is one row of the table. Without steps it could not begin."""
    record = RunFolder(run_dir).read_run()
    size = sum(path.lstat().st_size for path in outside.rglob("*")) if outside else 0
    steps = (record.get("result") or {}).get("env_steps", "")
    ROWS.append((sink, failure, record["status"], record.get("exit_code", ""), steps, size))
    return record


def train(out, report=None, started=lambda run_dir: None, on_step=None):
    """A run whose folder `started` changes before its files are opened."""

    class Report(Silent):
        def started(self, run_dir):
            started(run_dir)
            notes.started(run_dir)

    notes = report or Notes()
    told = Report()
    told.note, told.progress = notes.note, notes.progress
    context = RunContext(("test",), told, never_stop, print, on_step)
    env = lambda: Plain(length=7)
    return run.train(SMALL["sac"], env, config(**WARM), out=out, preset=None, name="plain", context=context)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    train(out)
    return outcome(only_run(out))


@pytest.fixture
def outside(tmp_path):
    (tmp_path / "outside").mkdir()
    yield tmp_path / "outside"
    assert not list((tmp_path / "outside").iterdir())


def failing(monkeypatch, of, act):
    """From now on every operation on a path that has the name `of` in it does something else first."""

    def hook(name, path):
        if any(of in part for part in path.parts[-3:]):
            act()

    monkeypatch.setattr(storage, "hook", hook)


def throw(error):
    raise error


def at_step(number, act):
    return lambda state: act(state.run_dir) if state.env_steps == number else None


def board_case(kind, monkeypatch, outside):
    """What makes TensorBoard's file fail, as arguments of `train`."""
    if kind in ERRORS:
        failing(monkeypatch, "tb", lambda: throw(OSError(ERRORS[kind], os.strerror(ERRORS[kind]))))
    elif kind == "raises":
        failing(monkeypatch, "tb", lambda: throw(RuntimeError("no")))
    elif kind == "hangs":
        monkeypatch.setattr(board, "PATIENCE", 0.2)
        failing(monkeypatch, "tb", lambda: threading.Event().wait(20))
    elif kind == "a link":
        return {"started": lambda run_dir: (run_dir / "tb").symlink_to(outside)}
    elif kind == "a file":
        return {"started": lambda run_dir: (run_dir / "tb").write_text("")}
    elif kind == "deleted":
        return {"on_step": at_step(40, lambda run_dir: shutil.rmtree(run_dir / "tb"))}
    return {}


@pytest.mark.parametrize("kind", ["raises", *ERRORS, "hangs", "a link", "a file", "deleted"])
def test_tensorboard_may_fail(kind, tmp_path, monkeypatch, outside, undisturbed):
    notes = Notes()
    assert train(tmp_path / "runs", notes, **board_case(kind, monkeypatch, outside)).status == "done"
    monkeypatch.setattr(storage, "hook", None)
    assert outcome(only_run(tmp_path / "runs")) == undisturbed
    assert noted("TensorBoard", kind, only_run(tmp_path / "runs"), outside)["status"] == "done"
    told = [note for note in notes.notes if "TensorBoard" in note]
    assert len(told) <= 2  # what is wrong, and how much was lost in all
    assert kind == "deleted" or "4 records for TensorBoard were lost" in told[-1]


def report_case(kind, monkeypatch, outside):
    """What makes the report fail, as arguments of `train`."""
    if kind in ERRORS or kind == "raises":
        error = OSError(ERRORS[kind], os.strerror(ERRORS[kind])) if kind in ERRORS else RuntimeError("no")
        failing(monkeypatch, "report.html", lambda: throw(error))
    elif kind == "hangs":
        monkeypatch.setattr(live, "PATIENCE", 0.2)
        failing(monkeypatch, "report.html", lambda: threading.Event().wait(20))
    elif kind == "a link":
        return {"started": lambda run_dir: (run_dir / "report.html").symlink_to(outside / "file")}
    elif kind == "a folder":
        return {"started": lambda run_dir: (run_dir / "report.html").mkdir()}
    return {}


@pytest.mark.parametrize("kind", ["raises", *ERRORS, "hangs", "a link", "a folder"])
def test_the_report_may_fail(kind, tmp_path, monkeypatch, outside, undisturbed):
    notes, metric = Notes(), sinks.Sinks.metric
    # It is written at evaluations, for which much would have to be compiled.
    monkeypatch.setattr(sinks.Sinks, "metric", lambda self, line: (metric(self, line), self.report.update()))
    assert train(tmp_path / "runs", notes, **report_case(kind, monkeypatch, outside)).status == "done"
    monkeypatch.setattr(storage, "hook", None)
    assert outcome(only_run(tmp_path / "runs")) == undisturbed
    assert noted("report", kind, only_run(tmp_path / "runs"), outside)["status"] == "done"
    told = [note for note in notes.notes if "report is not up to date" in note]
    assert len(told) == (kind != "a link")  # which is replaced by the report


def test_the_events_are_those_of_metrics_and_private(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    notes = []
    one = board.Board(tmp_path / "tb", 5, notes.append)
    one.add({"e/value": 1.5, "eval/return": -2.0}, 7)
    one.close()
    (path,) = (tmp_path / "tb").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    data, events = path.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    assert [event.file_version for event in events] == ["brain.Event:2", "", ""]
    assert events[1].step == 5
    assert events[1].session_log.status == 1
    assert {value.tag: value.simple_value for value in events[2].summary.value} == {"e/value": 1.5, "eval/return": -2.0}
    assert events[2].step == 7
    assert notes == []


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("kind", ["full", "read-only", "a link", "deleted"])
def test_results_may_not_fail_in_silence(name, kind, tmp_path, monkeypatch, outside):
    changes = {}
    if kind in ERRORS:
        failing(monkeypatch, name, lambda: throw(OSError(ERRORS[kind], os.strerror(ERRORS[kind]))))
    elif kind == "a link":
        target = outside if name == "checkpoints" else outside / "file"
        changes["started"] = lambda run_dir: (run_dir / name).symlink_to(target)
    elif name == "checkpoints":
        pytest.skip("a folder of checkpoints that was deleted is made again, with the newest one")
    else:
        changes["on_step"] = at_step(30, lambda run_dir: (run_dir / name).unlink())
    with pytest.raises(StorageFailure, match=name):
        train(tmp_path / "runs", **changes)
    monkeypatch.setattr(storage, "hook", None)
    record = noted(name, kind, only_run(tmp_path / "runs"), outside)
    assert (record["status"], record["exit_code"]) == ("error", 6)


def test_a_run_whose_folder_was_moved_says_so(tmp_path):
    move = lambda run_dir: run_dir.rename(tmp_path / "moved")
    with pytest.raises(StorageFailure, match=r"moved or replaced|No such file"):
        train(tmp_path / "runs", on_step=at_step(30, move))
    assert (tmp_path / "moved" / "metrics.jsonl").is_file()


# Reporters, and stderr.


class Raising(Silent):
    """A reporter that cannot report."""

    def started(self, run_dir):
        raise OSError("gone")

    note = progress = started


def test_a_reporter_may_raise(tmp_path, undisturbed, capsys):
    assert train(tmp_path, Raising()).status == "done"
    assert outcome(only_run(tmp_path)) == undisturbed
    noted("reporter", "raises", only_run(tmp_path))
    assert capsys.readouterr().err.count("cannot be reported") == 1


@contextlib.contextmanager
def stderr_is(descriptor, monkeypatch):
    """stderr of the process, for Python."""
    stream = open(descriptor, "w", buffering=1, closefd=False)  # noqa: SIM115  (a broken one cannot be closed)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setattr(sys, "__stderr__", stream)
        patch.setattr(terminal, "PATIENCE", 0.1)
        patch.setattr(terminal._State, "lost", 0)
        yield
    with contextlib.suppress(OSError):
        stream.detach()


def full_pipe():
    """The two ends of a pipe into which nothing more fits."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    return reader, writer


def gone_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return None, writer


def full_disk():
    return None, os.open("/dev/full", os.O_WRONLY)


def read_only():
    return None, os.open("/dev/null", os.O_RDONLY)


@pytest.mark.parametrize("ends", [full_pipe, gone_pipe, full_disk, read_only])
def test_whoever_reads_stderr_may_fail(ends, tmp_path, monkeypatch, undisturbed):
    reader, writer = ends()
    try:
        with stderr_is(writer, monkeypatch):
            assert train(tmp_path, progress.Plain({})).status == "done"
            assert terminal._State.lost > 3
        assert outcome(only_run(tmp_path)) == undisturbed
        noted("stderr", ends.__name__.replace("_", " "), only_run(tmp_path))
    finally:
        for descriptor in filter(None, (reader, writer)):
            os.close(descriptor)


def test_lost_lines_are_counted_and_told_once_there_is_a_reader_again(monkeypatch):
    reader, writer = full_pipe()
    try:
        with stderr_is(writer, monkeypatch):
            for text in ("one\n", "two\n"):
                terminal.say(text)
            os.set_blocking(reader, False)
            with contextlib.suppress(BlockingIOError):
                while os.read(reader, 1 << 16):
                    pass
            terminal.say("three\n")
            terminal.say("four\n")
        assert os.read(reader, 1000) == b"(2 lines for stderr were lost here)\nthree\nfour\n"
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("stream", [None, io.StringIO(), type("Broken", (), {"write": lambda self, text: 1 / 0})()])
def test_stderr_may_be_anything(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    terminal.say("text\n")
    if isinstance(stream, io.StringIO):
        assert stream.getvalue().endswith("text\n")


def test_a_bar_survives_its_terminal(tmp_path, monkeypatch, undisturbed):
    master, slave = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with stderr_is(slave, monkeypatch):
        with progress.reporter({}) as shown:
            shown.note("before")
            seen = b""
            while b"before" not in seen:
                seen += os.read(master, 10_000)
            os.close(master)
            assert train(tmp_path, shown).status == "done"
    os.close(slave)
    assert outcome(only_run(tmp_path)) == undisturbed
    noted("progress bar", "terminal gone", only_run(tmp_path))


@pytest.mark.long
def test_a_terminal_that_nobody_reads_does_not_hold_up_the_bar(tmp_path, monkeypatch, undisturbed):
    master, slave = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    try:
        with stderr_is(slave, monkeypatch), progress.reporter({}) as shown:
            for _ in range(200):  # more than a terminal keeps
                shown.note("x" * 200)
            assert train(tmp_path, shown).status == "done"
    finally:
        os.close(master)
        os.close(slave)
    assert outcome(only_run(tmp_path)) == undisturbed
    noted("progress bar", "terminal that nobody reads", only_run(tmp_path))


# Figures.


@pytest.fixture
def evaluated(tmp_path):
    source = Path(__file__).parents[1] / "releases" / "0.1.0" / "sac-Pendulum-v1"
    folder = shutil.copytree(source, tmp_path / "run")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return folder


@pytest.mark.parametrize(
    "kind", ["raises", *ERRORS, "hangs", "deleted", "a row that is no number", "no file", "a FIFO"]
)
def test_a_figure_may_fail(kind, evaluated, monkeypatch):
    if kind in ERRORS:
        failing(monkeypatch, "run", lambda: throw(OSError(ERRORS[kind], os.strerror(ERRORS[kind]))))
    elif kind == "raises":
        monkeypatch.setattr(curves.plt, "subplots", lambda **options: throw(RuntimeError("no")))
    elif kind == "hangs":
        monkeypatch.setattr(views, "PATIENCE", 0.2)
        failing(monkeypatch, "run", lambda: threading.Event().wait(20))
    elif kind == "deleted":
        shutil.rmtree(evaluated)
    else:
        (evaluated / "eval.csv").unlink()
        if kind == "a FIFO":
            os.mkfifo(evaluated / "eval.csv")
        elif kind != "no file":
            (evaluated / "eval.csv").write_text("env_steps,mean,std\noops,1,2\n")
    notes = []
    views.write_if_possible(evaluated, notes.append)
    ROWS.append(("figure", kind, "done", 0, "", 0))  # of a run that has ended
    assert "no learning curve" in notes[0]
    assert len(notes) == (1 if kind == "hangs" else 2)
    assert not list(evaluated.glob("*.png"))


def test_a_figure_replaces_a_link_and_is_private(evaluated, tmp_path):
    (tmp_path / "canary").write_text("untouched")
    (evaluated / "learning_curve.png").symlink_to(tmp_path / "canary")
    notes = []
    views.write_if_possible(evaluated, notes.append)
    assert len(notes) == 3
    assert (tmp_path / "canary").read_text() == "untouched"
    for kind in ("png", "svg"):
        path = evaluated / f"learning_curve.{kind}"
        assert not path.is_symlink()
        assert path.stat().st_mode & 0o777 == 0o600


# Whole processes.

ESTEP = f"{sys.executable} -m estep"
FLAGS = "--env Pendulum-v1 --preset none --steps 3000 --warmup-steps 3000 --eval-episodes 0 --log-every 100"


@pytest.mark.long
@pytest.mark.parametrize("target", ["2>&1 | head -3", "2>/dev/full", ">/dev/full 2>&1", "2>&1 | sleep 60", "2>&-"])
def test_a_run_survives_whoever_reads_it(target, tmp_path):
    script = f"set -o pipefail; ({ESTEP} train sac {FLAGS} --out {tmp_path / 'runs'}; echo $? > code) {target}; true"
    process = subprocess.Popen(["bash", "-c", script], cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        process.wait(120)
    finally:
        process.kill()
    assert (tmp_path / "code").read_text() == "0\n"
    assert noted("a process", target, only_run(tmp_path / "runs"))["status"] == "done"
