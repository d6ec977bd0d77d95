"""The only module that writes: atomic, private, torn lines dropped, every failure of the disk named."""

import errno
import json
import math
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from estep.errors import RejectedInput, StorageFailure
from estep.runs import leftovers, storage
from estep.runs.tables import CsvLines, JsonLines


@pytest.fixture
def operations(monkeypatch):
    """A record of every operation on the disk."""
    seen = []
    monkeypatch.setattr(storage, "hook", lambda name, path: seen.append((name, path.name)))
    return seen


def fail_at(monkeypatch, number: int, code: int) -> None:
    count = iter(range(1, 1_000_000))

    def hook(name: str, path: Path) -> None:
        if next(count) == number:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(storage, "hook", hook)


def test_write_atomic_syncs_the_file_before_the_rename_and_the_directory_after(tmp_path, operations):
    storage.write_atomic(tmp_path / "latest", b"new")
    assert [name for name, _ in operations] == ["write", "write", "fsync", "rename", "fsync"]
    assert (tmp_path / "latest").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["latest"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("number", range(1, 6))
def test_write_atomic_that_fails_leaves_old_or_new_and_nothing_else(tmp_path, monkeypatch, number, code):
    path = tmp_path / "latest"
    path.write_bytes(b"old")
    fail_at(monkeypatch, number, code)
    with pytest.raises(StorageFailure, match=str(tmp_path)) as caught:
        storage.write_atomic(path, b"new")
    assert caught.value.exit_code == 6
    assert caught.value.fix
    assert path.read_bytes() == (b"new" if number == 5 else b"old")
    assert os.listdir(tmp_path) == ["latest"]


def test_directories_and_files_are_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        storage.make_dir(tmp_path / "a" / "b")
        storage.write_atomic(tmp_path / "a" / "b" / "file", b"")
        JsonLines(tmp_path / "a" / "lines").close()
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/file", "a/lines")]
    assert modes == [0o700, 0o700, 0o600, 0o600]


def test_a_real_refusal_of_the_system_is_a_storage_failure(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailure):
        storage.make_dir(tmp_path / "file" / "below")
    with pytest.raises(StorageFailure):
        storage.write_atomic(tmp_path / "absent" / "file", b"")
    with pytest.raises(StorageFailure):
        storage.sync_dir(tmp_path / "file")


def test_a_file_size_limit_stops_a_write_half_way_and_loses_nothing(tmp_path):
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from estep.runs import storage; from estep.errors import StorageFailure\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))\n"
        "try: storage.write_atomic(Path(sys.argv[1]), bytes(8 << 20))\n"
        "except StorageFailure as error: sys.exit(error.exit_code)\n"
    )
    path = tmp_path / "big"
    path.write_bytes(b"old")
    assert subprocess.run([sys.executable, "-c", script, str(path)], timeout=20).returncode == 6
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["big"]


def test_link_falls_back_to_a_copy_only_where_links_cannot_be(tmp_path, monkeypatch):
    (tmp_path / "source").write_bytes(b"chunk")
    storage.link_or_copy(tmp_path / "source", tmp_path / "linked")
    assert (tmp_path / "linked").stat().st_ino == (tmp_path / "source").stat().st_ino

    def refuse(*arguments, **options):
        raise OSError(errno.EXDEV, "cross-device")

    monkeypatch.setattr(os, "link", refuse)
    storage.link_or_copy(tmp_path / "source", tmp_path / "copied")
    assert (tmp_path / "copied").read_bytes() == b"chunk"
    assert (tmp_path / "copied").stat().st_ino != (tmp_path / "source").stat().st_ino


def test_publish_syncs_everything_before_the_name_appears(tmp_path, operations):
    with storage.temporary_dir(tmp_path) as temporary:
        storage.make_dir(temporary / "replay")
        storage.write_new(temporary / "replay" / "chunk", b"1")
        storage.write_new(temporary / "manifest", b"2")
        del operations[:]
        storage.publish_dir(temporary, tmp_path / "step_1")
    work = temporary.name
    assert operations == [
        *[("fsync", "chunk"), ("fsync", "replay"), ("fsync", "manifest"), ("fsync", work)],
        *[("rename", "step_1"), ("fsync", tmp_path.name)],
    ]


def test_reap_removes_the_dead_and_spares_the_living(tmp_path):
    for name in (".tmp-dead-file", ".tmp-dead-link"):
        (tmp_path / name).symlink_to(tmp_path) if "link" in name else (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".tmp-dead-dir" / "inner").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    with storage.temporary_dir(tmp_path) as living:
        leftovers.reap(tmp_path)
        assert sorted(os.listdir(tmp_path)) == sorted(["kept", living.name])
    leftovers.reap(tmp_path)
    assert os.listdir(tmp_path) == ["kept"]
    leftovers.reap(tmp_path / "absent")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_reaped_before_it_is_locked_is_made_again(kind, tmp_path, monkeypatch):
    lock, reaped = storage._locked, []

    def late(descriptor, path):
        if not reaped:
            leftovers.reap(tmp_path)
            reaped.append(path)
            assert not path.exists()
        return lock(descriptor, path)

    monkeypatch.setattr(storage, "_locked", late)
    if kind == "file":
        storage.write_atomic(tmp_path / "file", b"1")
        assert (tmp_path / "file").read_bytes() == b"1"
    else:
        with storage.temporary_dir(tmp_path) as temporary:
            leftovers.reap(tmp_path)
            storage.publish_dir(temporary, tmp_path / "folder")
    assert os.listdir(tmp_path) == [kind]
    assert len(reaped) == 1


def test_a_temporary_file_keeps_its_lock_until_it_is_removed(tmp_path, monkeypatch):
    (tmp_path / ".tmp-dead").write_bytes(b"x")
    held, remove = [], storage.remove_tree
    monkeypatch.setattr(storage, "remove_tree", lambda path: (held.append(leftovers.is_held(path)), remove(path)))
    leftovers.reap(tmp_path)
    assert held == [True]
    assert os.listdir(tmp_path) == []


def test_metrics_are_strict_json(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl")
    lines.append({"env_steps": 1, "loss": math.nan, "deep": [math.inf, {"x": -math.inf}], "name": "é\n\u202e"})
    lines.sync()
    lines.close()
    lines.close()
    text = (tmp_path / "metrics.jsonl").read_text("ascii")
    assert text.count("\n") == 1
    record = json.loads(text, parse_constant=pytest.fail)
    assert record == {"env_steps": 1, "loss": None, "deep": [None, {"x": None}], "name": "é\n\u202e"}
    with pytest.raises(ValueError, match="closed"):
        lines.append({})


def test_a_torn_last_line_is_dropped_wherever_the_kill_fell(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = b'{"env_steps":1}\n{"env_steps":2}\n'
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        lines = JsonLines(path)
        lines.append({"env_steps": 9})
        lines.close()
        complete = whole[:cut].count(b"\n")
        assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:complete]) + b'{"env_steps":9}\n'


def test_resume_neither_loses_nor_doubles_metrics(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl")
    table = CsvLines(tmp_path / "eval.csv", ["env_steps", "mean", "note"])
    for step in range(10, 60, 10):
        lines.append({"env_steps": step})
        table.append({"env_steps": step, "mean": -float(step), "note": "=1+1"})
    lines.truncate_after(30)
    table.truncate_after(30)
    for step in (40, 50, 60):
        lines.append({"env_steps": step})
        table.append({"env_steps": step, "mean": math.nan, "note": "a,b\r\n"})
    lines.close()
    table.close()
    steps = [json.loads(line)["env_steps"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [10, 20, 30, 40, 50, 60]
    rows = (tmp_path / "eval.csv").read_bytes().split(b"\n")
    assert rows[:2] == [b"env_steps,mean,note", b"10,-10.0,'=1+1"]
    assert rows[4] == b'40,,"a,b  "'
    assert len(rows) == 8
    CsvLines(tmp_path / "eval.csv", ["env_steps", "mean", "note"]).close()
    with pytest.raises(RejectedInput, match="columns"):
        CsvLines(tmp_path / "eval.csv", ["env_steps"])


@pytest.mark.parametrize("line", [b"[]", b"{", b'{"updates":1}', b'{"env_steps":NaN}', b"\xff", b'{"env_steps":"x"}'])
def test_a_line_that_cannot_be_read_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"env_steps":1}\n' + line + b"\n")
    lines = JsonLines(path)
    with pytest.raises(RejectedInput, match="Line 2"):
        lines.truncate_after(5)
    lines.close()


def test_an_append_that_fails_is_taken_back(tmp_path, monkeypatch):
    lines = JsonLines(tmp_path / "metrics.jsonl")
    lines.append({"env_steps": 1})
    fail_at(monkeypatch, 2, errno.ENOSPC)
    monkeypatch.setattr(storage, "PIECE", 4)
    with pytest.raises(StorageFailure):
        lines.append({"env_steps": 2})
    monkeypatch.setattr(storage, "hook", None)
    lines.append({"env_steps": 3})
    lines.close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == b'{"env_steps":1}\n{"env_steps":3}\n'


def test_a_forked_worker_does_not_keep_the_lock_alive(tmp_path):
    script = (
        "import os, sys, time; from pathlib import Path; from estep.runs import storage\n"
        "assert storage.try_lock(Path(sys.argv[1]), b'x') is not None\n"
        "ready, tell = os.pipe(); child = os.fork()\n"
        "if child == 0: os.write(tell, b'x'); time.sleep(30)\n"
        "os.read(ready, 1); print(child, flush=True); os._exit(0)\n"
    )
    done = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / ".lock")], stdout=subprocess.PIPE)
    with done:
        worker = int(done.stdout.readline())
        done.wait(10)
        try:
            lock = storage.try_lock(tmp_path / ".lock", b"y")
            assert lock is not None
            storage.close(lock)
        finally:
            os.kill(worker, 9)


def test_a_link_that_fails_for_another_reason_is_not_hidden_by_a_copy(tmp_path, monkeypatch):
    (tmp_path / "source").write_bytes(b"chunk")

    def fail(*arguments, **options):
        raise OSError(errno.EIO, "failing disk")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(StorageFailure, match="failing disk"):
        storage.link_or_copy(tmp_path / "source", tmp_path / "target")
    assert os.listdir(tmp_path) == ["source"]


def test_a_folder_that_cannot_be_listed_is_a_storage_failure(tmp_path, monkeypatch):
    def refuse(self, pattern):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Path, "glob", refuse)
    with pytest.raises(StorageFailure, match="Too many open files"):
        leftovers.reap(tmp_path)
