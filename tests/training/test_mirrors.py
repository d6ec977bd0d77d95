"""A mirror of a run's numbers never stops the run, and a resumed run goes on in the same place."""

import json
import subprocess
import sys
import threading

import pytest

from estep.errors import UsageError
from estep.runs.folder import RunFolder
from estep.settings.run import RunConfig
from estep.training.mirrors import mirror


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "sac" / "Pendulum-v1" / "run"
    path.mkdir(parents=True, mode=0o700)
    made = RunFolder(path)
    made.write_run({"status": "running"})
    made.write_config({"algorithm": {"name": "sac"}}, {})
    return made


class Service:
    """A service that holds what it gets, and may fail."""

    def __init__(self, fails=()):
        self.fails, self.opened, self.held, self.closed = fails, [], [], 0

    def __call__(self, identity, name, settings):
        self.opened.append((identity, name, settings))
        self._fail("open")
        return self

    def log(self, numbers, step):
        self._fail("log")
        self.held.append((step, numbers))

    def close(self):
        self._fail("close")
        self.closed += 1

    def _fail(self, when):
        if when in self.fails:
            raise SystemExit("refused") if when == "log" else OSError("no network")


def mirrored(folder, service, monkeypatch, records=3):
    """What the user is told of a run whose numbers go to a service."""
    monkeypatch.setitem(mirror.OPENERS, "wandb", service)
    notes = []
    made = mirror.Mirror("wandb", folder, notes.append)
    for step in range(records):
        made.add({"return": float(step)}, step)
    made.close()
    return notes


def test_a_service_gets_the_numbers_and_a_resumed_run_has_the_same_id(folder, monkeypatch):
    service = Service()
    assert mirrored(folder, service, monkeypatch) == []
    assert service.held == [(step, {"return": float(step)}) for step in range(3)]
    assert mirrored(folder, service, monkeypatch) == []
    (identity, name, settings), again = service.opened
    assert again[0] == identity == folder.read_run()["mirrors"]["wandb"]
    assert (name, settings, service.closed) == ("sac-run", {"algorithm": {"name": "sac"}}, 2)


@pytest.mark.parametrize("when", ["open", "log", "close"])
def test_a_service_that_fails_is_warned_of_once(when, folder, monkeypatch):
    notes = mirrored(folder, Service({when}), monkeypatch)
    assert len(notes) == 1
    assert "numbers for wandb are lost" in notes[0]
    assert not [thread for thread in threading.enumerate() if thread.name == "estep-wandb"]


def test_a_service_that_hangs_takes_neither_time_nor_memory(folder, monkeypatch):
    monkeypatch.setattr(mirror, "PATIENCE", 0.1)
    monkeypatch.setattr(mirror, "WAITING", 10)
    go_on = threading.Event()
    notes = mirrored(folder, lambda *about: go_on.wait(20), monkeypatch, records=50)
    go_on.set()
    assert len(notes) == 1
    assert "does not answer" in notes[0]


def test_a_missing_extra_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(mirror.PACKAGES, "wandb", "no_such_package")
    with pytest.raises(UsageError, match=r"pip install 'estep\[wandb\]'"):
        mirror.check_installed("wandb")
    mirror.check_installed("none")


def test_a_population_has_no_mirror():
    with pytest.raises(UsageError, match='log="wandb" follows one run'):
        RunConfig(population=2, log="wandb")


PROGRAM = """
import sys
from pathlib import Path
from estep.runs.folder import RunFolder
from estep.training.mirrors import mirror
folder = RunFolder(Path(sys.argv[1]))
made = mirror.Mirror(sys.argv[2], folder, print)
for step in range(int(sys.argv[3]), int(sys.argv[3]) + 3):
    made.add({"e/value": 0.5 * step, "return": float("nan")}, step)
made.close()
"""


def through(service, folder, place, first, **variables):
    """Copy numbers in a process of its own, as each session of a run has one. Returns what it printed."""
    command = [sys.executable, "-c", PROGRAM, str(folder.path), service, str(first)]
    own = {**__import__("os").environ, **variables}
    return subprocess.run(command, cwd=place, env=own, capture_output=True, text=True, timeout=300)


@pytest.mark.long
def test_wandb_offline(folder, tmp_path):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    for first in (0, 10):
        done = through("wandb", folder, tmp_path, first, WANDB_MODE="offline", WANDB_API_KEY="x" * 40)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    identity = folder.read_run()["mirrors"]["wandb"]
    runs = [path.name for path in (tmp_path / "wandb").glob("offline-run-*")]
    assert runs
    assert all(name.endswith(identity) for name in runs)
    assert "x" * 40 not in "".join(path.read_text("utf-8") for path in folder.path.iterdir())


@pytest.mark.long
def test_mlflow_in_a_folder(folder, tmp_path):
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    place = (tmp_path / "mlruns").as_uri()
    for first in (0, 10):
        done = through("mlflow", folder, tmp_path, first, MLFLOW_TRACKING_URI=place, MLFLOW_ALLOW_FILE_STORE="true")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (metric,) = (tmp_path / "mlruns").rglob("metrics/e/value")
    steps = [int(line.split()[2]) for line in metric.read_text("utf-8").splitlines()]
    assert steps == [0, 1, 2, 10, 11, 12]
    assert json.loads((folder.path / "run.json").read_text("utf-8"))["mirrors"]["mlflow"]
