"""Run folders: names that never collide, one writer, readers that never block."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from estep.errors import RejectedInput
from estep.runs import leftovers, provenance
from estep.runs.folder import RunFolder, safe_name

NOW = datetime(2026, 11, 22, 10, 15, 2)


def make(out: Path, **options) -> RunFolder:
    folder = RunFolder.create(out, "sac", options.get("env", "Pendulum-v1"), options.get("seed", 0), NOW)
    folder.write_run({"status": "running"})
    return folder


def test_a_folder_has_its_name_and_a_second_gets_another(tmp_path):
    first, second, third = make(tmp_path / "runs"), make(tmp_path / "runs"), make(tmp_path / "runs", seed=7)
    base = tmp_path / "runs" / "sac" / "Pendulum-v1"
    names = ["20261122-101502-s0", "20261122-101502-s0-2", "20261122-101502-s7"]
    assert [folder.path for folder in (first, second, third)] == [base / name for name in names]
    assert (base / "latest").read_text() == names[2] + "\n"
    assert sorted(os.listdir(base)) == [*names, "latest"]
    for folder in (first, second, third):
        folder.close()


@pytest.mark.parametrize(
    "env", ["ALE/Pong-v5", "module:Id", "../../etc", "..", "", "a\x00b", "x" * 500, "\u202eevil", "-rf"]
)
def test_any_environment_id_becomes_one_name(tmp_path, env):
    name = safe_name(env)
    assert name
    assert len(name) <= 100
    assert not name.startswith((".", "-"))
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    with make(tmp_path, env=env) as folder:
        assert folder.path.parent.parent == tmp_path / "sac"


def test_open_takes_a_folder_or_its_latest_and_nothing_else(tmp_path):
    with make(tmp_path) as folder:
        folder.write_config({"steps": 10}, {"steps": 10})
    assert RunFolder.open(folder.path).path == folder.path
    assert RunFolder.open(str(folder.path.parent / "latest")).path == folder.path
    reader = RunFolder.open(folder.path)
    assert reader.read_run() == {"status": "running"}
    assert reader.read_config() == reader.read_diff() == {"steps": 10}
    (tmp_path / "empty").mkdir()
    for bad in (tmp_path / "absent", tmp_path / "empty", tmp_path, folder.path / "run.json", "\x00", "/dev/null"):
        with pytest.raises(RejectedInput, match="not a run folder"):
            RunFolder.open(bad)


def test_the_folder_of_an_environment_is_answered_with_its_newest_run(tmp_path):
    with make(tmp_path) as folder:
        latest = folder.path.parent / "latest"
    with pytest.raises(RejectedInput, match=f"the newest is {latest}"):
        RunFolder.open(latest.parent)


@pytest.mark.parametrize("text", [b"../../x", b"/etc", b"", b".", b"absent", b"\xff", b"x" * 1000, b"a/b"])
def test_a_latest_that_lies_is_refused(tmp_path, text):
    with make(tmp_path) as folder:
        latest = folder.path.parent / "latest"
    latest.write_bytes(text)
    with pytest.raises(RejectedInput):
        RunFolder.open(latest)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{", b'{"a":NaN}', b'{"a":1,"a":2}', b"[" * 100_000, b"\xff", b"9" * 5000]
)
def test_a_run_json_that_cannot_be_read_is_refused(tmp_path, text):
    with make(tmp_path) as folder:
        (folder.path / "run.json").write_bytes(text)
        with pytest.raises(RejectedInput, match=r"run\.json"):
            folder.read_run()


def test_the_second_writer_is_refused_at_once_and_learns_who(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits for the first"))
    folder = make(tmp_path)
    other = RunFolder.open(folder.path)
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    with pytest.raises(RejectedInput) as caught:
        other.lock()
    assert caught.value.exit_code == 3
    assert f"process {os.getpid()} on host {os.uname().nodename}" in caught.value.what
    assert str(datetime.now().year) in caught.value.what
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before
    folder.close()
    other.lock()
    other.lock()
    other.close()


WRITER = """
import sys, time; from estep.runs.folder import RunFolder; from estep.errors import RejectedInput
folder = RunFolder.open(sys.argv[1])
print("ready", flush=True); sys.stdin.readline()
try: folder.lock()
except RejectedInput as error: print(error.what, flush=True); sys.exit(3)
print("won", flush=True); time.sleep(60)
"""


def test_of_many_writers_one_wins_and_its_death_frees_the_lock(tmp_path):
    with make(tmp_path) as folder:
        pass
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen([sys.executable, "-c", WRITER, str(folder.path)], **pipes) for _ in range(4)]
    try:
        assert all(child.stdout.readline() == "ready\n" for child in children)
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        answers = [child.stdout.readline() for child in children]
        (winner,) = [child for child, answer in zip(children, answers, strict=True) if answer == "won\n"]
        losers = [answer for answer in answers if answer != "won\n"]
        assert all(f"process {winner.pid} on host" in answer for answer in losers)
        assert RunFolder.open(folder.path).read_run() == {"status": "running"}
        winner.send_signal(signal.SIGKILL)
        winner.wait(10)
        folder.lock()
        folder.close()
    finally:
        for child in children:
            child.kill()
            child.communicate()


def test_the_logs_of_a_folder(tmp_path):
    with make(tmp_path) as folder:
        for log in (folder.metrics(), folder.evaluations(["env_steps"]), folder.episodes(["env_steps"])):
            log.append({"env_steps": 5})
            log.truncate_after(4)
            log.close()
        assert (folder.path / "metrics.jsonl").read_bytes() == b""
        assert (folder.path / "eval.csv").read_bytes() == (folder.path / "episodes.csv").read_bytes() == b"env_steps\n"


def test_provenance_is_complete_and_holds_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    record = provenance.describe(["estep", "train"], {"run": 3})
    assert set(record["versions"]) == {"python", *provenance.PACKAGES}
    assert record["versions"]["numpy"]
    assert record["hardware"]["cores"] >= 1
    assert record["hardware"]["memory"] > 1 << 28
    assert record["seeds"] == {"run": 3}
    assert "hunter2" not in json.dumps(record, allow_nan=False)
    assert provenance.git(tmp_path) is None
    assert provenance.git(tmp_path / "absent") is None


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_dirty_checkout_is_told(tmp_path):
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=x", "-c", "user.email=x@x"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "one")
    assert provenance.git(tmp_path)["dirty"] is False
    (tmp_path / "file").write_text("2")
    found = provenance.git(tmp_path)
    assert found["dirty"] is True
    assert len(found["sha"]) == 40


def test_nothing_here_imports_jax():
    script = (
        "import sys; import estep.runs.folder, estep.cli.lifecycle, estep.runs.provenance;"
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=20).returncode == 0


def test_a_folder_of_its_own_takes_what_a_process_left_that_died_at_once(tmp_path):
    path = tmp_path / "here"
    with RunFolder.create(tmp_path, "sac", "Pendulum-v1", 0, NOW, path) as folder:
        assert folder.path == path
        folder.write_config({}, {})
        with pytest.raises(RejectedInput, match="is being written by process"):
            RunFolder.create_at(path)
    with RunFolder.create_at(path) as folder:  # it had no run.json yet
        folder.write_run({"status": "running"})
    with pytest.raises(RejectedInput, match="estep resume"):
        RunFolder.create_at(path)
    assert RunFolder.open(path).read_run() == {"status": "running"}


def test_a_folder_with_other_files_is_no_place_for_a_run(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(RejectedInput, match=r"it has notes.txt"):
        RunFolder.create_at(tmp_path)


def test_a_lock_is_seen_without_being_taken(tmp_path):
    assert not leftovers.is_held(tmp_path / ".lock")
    with RunFolder.create_at(tmp_path):
        assert leftovers.is_held(tmp_path / ".lock")
    assert not leftovers.is_held(tmp_path / ".lock")
