"""Checkpoints survive kills, failing disks and flipped bits; what does not verify is never used."""

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from estep.errors import RejectedInput, StorageFailure
from estep.runs import checkpoint, manifest, storage

ROWS = 16


class Replay:
    """A memory of rows in chunks, which records what it was asked to write."""

    def __init__(self, chunks: int = 0, value: float = 0.0) -> None:
        self.data = [np.full((ROWS, 3), value + number, np.float32) for number in range(chunks)]
        self.dirty = set(range(chunks))
        self.state = 1 << 127
        self.written: list[int] = []

    @property
    def chunks(self):
        return len(self.data)

    def chunk(self, number):
        self.written.append(number)
        return {"obs": self.data[number]}

    def load_chunk(self, number, arrays):
        if number == 0:
            self.data = []
        if arrays["obs"].shape != (ROWS, 3):
            raise ValueError("the chunk has another shape")
        self.data[number : number + 1] = [arrays["obs"].copy()]

    def counters(self):
        return {"size": ROWS * self.chunks, "rng": self.state}

    def load_counters(self, counters):
        self.state = counters["rng"]

    def clean(self, numbers):
        self.dirty -= numbers

    def change(self, number, value):
        self.data[number] = np.full((ROWS, 3), value, np.float32)
        self.dirty.add(number)


def state(value: float) -> dict[str, dict[str, np.ndarray]]:
    leaf = "inference.model.net.layers.0.weight"
    return {
        "params": {leaf: np.full((3, 2), value, np.float32), "alpha": np.array(value)},
        "optim": {leaf: np.full((3, 2), value, np.float32), "count": np.array([int(value)])},
        "stats": {"empty": np.zeros((0, 3)), "key": np.array([1, 2], np.uint32), "flag": np.array([True])},
    }


def save(run: Path, step: int, replay=None, keep=3) -> Path:
    return checkpoint.save(run, step, state(step), {"updates": step, "best": float("nan")}, replay, keep)


def names(run: Path) -> list[str]:
    return sorted(os.listdir(run / "checkpoints"))


def rewrite(path: Path, data: bytes) -> None:
    """Replace a file by a new one: writing into it would change every checkpoint that links it."""
    path.unlink()
    path.write_bytes(data)
    path.chmod(0o600)


def refused(path: Path, word: str = "rejected", expected=None, replay=None) -> None:
    start = time.process_time()
    with pytest.raises(RejectedInput, match=word):
        checkpoint.load(path, expected, replay)
    assert time.process_time() - start < 2


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """One checkpoint with a replay, never changed."""
    return save(tmp_path_factory.mktemp("run"), 7, Replay(2))


@pytest.fixture
def copy(sound, tmp_path):
    """A copy of it to damage."""
    return Path(shutil.copytree(sound, tmp_path / "step_7"))


def test_what_is_loaded_is_what_was_saved(tmp_path):
    replay = Replay(3)
    path = save(tmp_path, 7, replay)
    assert path == tmp_path / "checkpoints" / "step_7"
    fresh = Replay()
    loaded = checkpoint.load(path, None, fresh)
    assert (loaded.step, loaded.meta) == (7, {"updates": 7, "best": None})
    for file, leaves in state(7).items():
        assert list(loaded.tensors[file]) == list(leaves)
        for name, array in leaves.items():
            found = loaded.tensors[file][name]
            assert found.dtype == array.dtype
            assert found.shape == array.shape
            assert found.tobytes() == array.tobytes()
    assert np.array_equal(np.stack(fresh.data), np.stack(replay.data))
    assert fresh.state == 1 << 127
    assert (tmp_path / "latest").read_text() == "step_7\n"
    assert [(path, None)] == checkpoint.verify(tmp_path)
    assert sorted(safetensors.numpy.load_file(path / "optim.safetensors")) == sorted(state(7)["optim"])
    modes = {item.stat().st_mode & 0o777 for item in path.rglob("*")}
    assert modes == {0o600, 0o700}


def test_arrays_of_any_layout_are_stored_by_value(tmp_path):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    leaves = {"t": base.T, "s": base[::2, ::-1], "b": base.astype(">f4"), "0": np.float32(3.0) * np.ones(())}
    path = checkpoint.save(tmp_path, 0, {"params": leaves}, {}, None)
    loaded = checkpoint.load(path, None, None).tensors["params"]
    assert all(np.array_equal(loaded[name], array) for name, array in leaves.items())
    for bad in (np.array(["x"]), np.array([1j]), np.array([None])):
        with pytest.raises(TypeError):
            checkpoint.save(tmp_path, 1, {"stats": {"x": bad}}, {}, None)
    for file, leaf in product(["../x", ".x", "a/b", ""], ["ok"]):
        with pytest.raises(TypeError):
            checkpoint.save(tmp_path, 1, {file: {leaf: base}}, {}, None)
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path, 1, {"params": {"a b": base}}, {}, None)
    assert names(tmp_path) == ["step_0"]


def test_a_save_costs_what_is_new(tmp_path):
    replay = Replay(4)
    first = save(tmp_path, 1, replay)
    assert sorted(replay.written) == [0, 1, 2, 3]
    replay.written.clear()
    replay.change(2, 99.0)
    second = save(tmp_path, 2, replay)
    assert replay.written == [2]
    linked = [(first / manifest.chunk_name(n)).samefile(second / manifest.chunk_name(n)) for n in range(4)]
    assert linked == [True, True, False, True]
    (second / manifest.chunk_name(0)).unlink()
    replay.written.clear()
    third = save(tmp_path, 3, replay)
    assert replay.written == [0]
    for path in (first, third):
        fresh = Replay()
        checkpoint.load(path, None, fresh)
        assert fresh.data[2][0, 0] == (2.0 if path == first else 99.0)
    refused(second, "missing")


def test_a_replay_loaded_from_an_older_checkpoint_does_not_borrow_the_newer_ones_chunks(tmp_path):
    replay = Replay(2)
    old = save(tmp_path, 1, replay)
    replay.change(0, 50.0)
    save(tmp_path, 2, replay)
    resumed = Replay()
    checkpoint.load(old, None, resumed)
    path = save(tmp_path, 3, resumed)
    fresh = Replay()
    checkpoint.load(path, None, fresh)
    assert fresh.data[0][0, 0] == 0.0


def test_retention_keeps_the_newest_and_the_best_by_sequence_not_by_step_or_time(tmp_path):
    save(tmp_path, 500)
    checkpoint.set_best(tmp_path, 500)
    for step in (900, 30, 20, 20, 10):
        path = save(tmp_path, step)
        os.utime(path, (step, step))
        assert checkpoint.newest(tmp_path) == (path, [])
        assert checkpoint.locate(tmp_path, "latest") == path
    assert names(tmp_path) == ["step_10", "step_20", "step_20-2", "step_500"]
    assert checkpoint.locate(tmp_path, "best").name == "step_500"
    assert checkpoint.locate(tmp_path, 20).name == checkpoint.locate(tmp_path, "20").name == "step_20-2"
    assert checkpoint.locate(tmp_path, "step_20").name == "step_20"
    assert [path.name for path, _ in checkpoint.verify(tmp_path)] == ["step_500", "step_20", "step_20-2", "step_10"]
    for which in ("900", 3, "worst", "../x", "step_30", "step_10-2", "step_", ""):
        with pytest.raises(RejectedInput, match="no checkpoint"):
            checkpoint.locate(tmp_path, which)


def test_what_does_not_verify_does_not_count_as_kept(tmp_path):
    for step in (1, 2, 3):
        path = save(tmp_path, step)
    rewrite(path / "params.safetensors", bytes(10))
    save(tmp_path, 4)
    assert names(tmp_path) == ["step_1", "step_2", "step_3", "step_4"]
    save(tmp_path, 5)
    save(tmp_path, 6)
    assert names(tmp_path) == ["step_4", "step_5", "step_6"]


@pytest.mark.parametrize("text", [b"../../etc", b"step_1\nstep_2", b"\xff", b"x" * 500, b"/", b"step_99", b""])
def test_a_pointer_that_lies_is_refused_and_never_falls_back(tmp_path, text):
    save(tmp_path, 1)
    (tmp_path / "best").write_bytes(text)
    with pytest.raises(RejectedInput):
        checkpoint.locate(tmp_path, "best")
    save(tmp_path, 2)


def test_parameters_that_are_not_finite_go_to_quarantine(tmp_path):
    replay = Replay(1)
    good = save(tmp_path, 1, replay)
    replay.change(0, 5.0)
    for count, bad in enumerate((np.nan, np.inf, -np.inf, np.nan)):
        tensors = state(2)
        tensors["params"]["alpha"] = np.array(bad)
        path = checkpoint.save(tmp_path, 2 + count % 3, tensors, {}, replay)
        assert path.name.startswith("quarantine_step_")
    assert checkpoint.newest(tmp_path) == (good, [])
    assert checkpoint.locate(tmp_path, "latest") == good
    assert replay.dirty == {0}
    assert np.isnan(
        checkpoint.load(tmp_path / "checkpoints" / "quarantine_step_2", None, None).tensors["params"]["alpha"]
    )
    assert "quarantine_step_2-2" in names(tmp_path)


def test_no_checkpoint_and_none_that_verifies_are_told_apart(tmp_path):
    assert checkpoint.newest(tmp_path) == (None, [])
    with pytest.raises(RejectedInput, match="no checkpoints"):
        checkpoint.verify(tmp_path)
    with pytest.raises(RejectedInput):
        checkpoint.set_best(tmp_path, 1)


def damage(path: Path, how: int) -> None:
    """Three ways in which a checkpoint goes bad: its data, its manifest, a file of it."""
    if how == 0:
        data = bytearray((path / "params.safetensors").read_bytes())
        data[-1] ^= 1
        rewrite(path / "params.safetensors", bytes(data))
    elif how == 1:
        rewrite(path / "manifest.json", (path / "manifest.json").read_bytes()[:-1])
    else:
        (path / "optim.safetensors").unlink()


def test_the_newest_that_verifies_is_used_in_all_31_cases_and_each_skipped_is_told(tmp_path):
    run = tmp_path / "run"
    for step in range(5):
        save(run, step, keep=5)
    for bad in range(1, 32):
        trial = tmp_path / "trial"
        shutil.copytree(run, trial)
        paths = [trial / "checkpoints" / f"step_{step}" for step in range(5)]
        for step, path in enumerate(paths):
            if bad >> step & 1:
                damage(path, (bad + step) % 3)
        good = [path for step, path in enumerate(paths) if not bad >> step & 1]
        reasons = dict(checkpoint.verify(trial))
        assert [path for path in paths if reasons[path] is None] == good
        if good:
            found, skipped = checkpoint.newest(trial)
            assert found == good[-1]
            told = dict(skipped)
            assert all(told[path] for path in paths[paths.index(found) + 1 :])
            assert set(told) <= set(paths) - set(good)
            save(trial, 9, keep=5)
            assert checkpoint.newest(trial)[0].name == "step_9"
        else:
            with pytest.raises(RejectedInput, match="step_4"):
                checkpoint.newest(trial)
        shutil.rmtree(trial)


def test_all_checkpoints_are_kept_where_that_is_asked_for(tmp_path):
    for step in range(6):
        save(tmp_path, step, keep=0)
    assert len(names(tmp_path)) == 6
    save(tmp_path, 6, keep=2)
    assert names(tmp_path) == ["step_5", "step_6"]


def test_every_byte_of_the_small_files_counts(copy):
    flips = 0
    for path in sorted(item for item in copy.rglob("*") if item.is_file()):
        data = path.read_bytes()
        places = range(len(data)) if len(data) < 3000 else random.Random(1).sample(range(len(data)), 300)
        for place in places:
            spoilt = bytearray(data)
            spoilt[place] ^= 1 << (place % 8)
            path.write_bytes(spoilt)
            assert checkpoint.reason_against(copy) is not None, (path.name, place)
            flips += 1
        path.write_bytes(data)
    assert flips > 2000
    assert checkpoint.reason_against(copy) is None


def test_random_bits_of_a_large_file_count(tmp_path):
    path = checkpoint.save(tmp_path, 1, {"params": {"w": np.ones((64, 257))}}, {}, None) / "params.safetensors"
    data, generator = path.read_bytes(), random.Random(0)
    for _ in range(300):
        spoilt = bytearray(data)
        spoilt[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        path.write_bytes(spoilt)
        refused(path.parent)


def test_truncations_are_detected(copy):
    for path in sorted(item for item in copy.rglob("*") if item.is_file()):
        data = path.read_bytes()
        for length in {0, 1, 7, 8, 9, len(data) // 2, len(data) - 1}:
            path.write_bytes(data[:length])
            refused(copy)
        path.write_bytes(data + b"\0")
        refused(copy)
        path.write_bytes(data)
    checkpoint.load(copy, None, None)


def test_swapped_missing_extra_and_stale_files_are_detected(copy, tmp_path):
    first, second = (copy / manifest.chunk_name(number) for number in (0, 1))
    a, b = first.read_bytes(), second.read_bytes()
    assert len(a) == len(b)
    first.write_bytes(b)
    second.write_bytes(a)
    refused(copy, "SHA-256")
    first.write_bytes(a)
    second.write_bytes(b)
    for name in ("extra", "replay/extra", "replay/chunk_0002.safetensors", "PARAMS.safetensors", ".hidden"):
        (copy / name).write_bytes(a)
        refused(copy, "not in its manifest")
        (copy / name).unlink()
    for path in sorted(item for item in copy.rglob("*.safetensors")):
        data = path.read_bytes()
        path.unlink()
        refused(copy, "missing")
        path.write_bytes(data)
    checkpoint.load(copy, None, None)
    newer = save(tmp_path / "other", 8, Replay(2))
    shutil.copy(newer / "params.safetensors", copy / "params.safetensors")
    refused(copy, "SHA-256")
    shutil.rmtree(copy / "replay")
    refused(copy)
    refused(tmp_path / "absent")


def reseal(path: Path, change) -> None:
    """Change the manifest and give it a right hash again, as a careful attacker or another version would."""
    table = json.loads((path / "manifest.json").read_bytes())
    change(table)
    del table["self"]
    rest = json.dumps(table, separators=(",", ":")).encode()[1:]
    head = b'{"self":"' + hashlib.sha256(rest).hexdigest().encode() + b'",'
    (path / "manifest.json").write_bytes(head + rest)


def test_a_newer_format_says_what_it_needs(copy):
    reseal(copy, lambda table: table.update(format=2, novelty=1))
    refused(copy, "format 2, but this version of estep reads only 1")
    reseal(copy, lambda table: (table.update(format=1), table.pop("novelty")))
    checkpoint.load(copy, None, None)


def layout(file: str) -> dict:
    return {name: (array.shape, array.dtype) for name, array in state(7)[file].items()}


def test_each_leaf_that_does_not_fit_is_named(sound):
    leaf = "inference.model.net.layers.0.weight"
    expected = {"params": layout("params"), "optim": layout("optim")}
    assert set(checkpoint.load(sound, expected, None).tensors) == {"params", "optim", "stats"}
    float32 = {name: (shape, str(dtype)) for name, (shape, dtype) in layout("params").items()}
    checkpoint.load(sound, {"params": float32}, None)
    more = {**layout("params"), "beta": ((), np.float32)}
    refused(sound, "params/beta is missing", {"params": more})
    fewer = {name: layout("params")[name] for name in ["alpha"]}
    refused(sound, f"params/{leaf} is not part of", {"params": fewer})
    refused(sound, f"params/{leaf} is float32", {"params": {**layout("params"), leaf: ((2, 3), np.float32)}})
    refused(sound, f"params/{leaf} is float32", {"params": {**layout("params"), leaf: ((3, 2), np.float64)}})
    refused(sound, r"critic\.safetensors is missing", {"critic": {}})


def test_a_replay_that_does_not_fit_is_refused(tmp_path, sound):
    refused(save(tmp_path, 1), "has no replay", replay=Replay())

    class Other(Replay):
        def load_chunk(self, number, arrays):
            arrays["reward"]

    refused(sound, "malformed", replay=Other())


class Death(BaseException):
    """The process dies: no cleanup of ours may run on the disk after it."""


def operations_of(act, monkeypatch) -> int:
    count = []
    monkeypatch.setattr(storage, "hook", lambda name, path: count.append(name))
    act()
    monkeypatch.setattr(storage, "hook", None)
    return len(count)


def prepared(base: Path) -> tuple[Path, Replay]:
    """A run with a full set of checkpoints, so that the next save links, writes, publishes and prunes."""
    run, replay = base, Replay(3)
    for step in (1, 2):
        save(run, step, replay, keep=2)
        replay.change(0, float(step))
    return run, replay


def test_death_at_every_operation_of_a_save_leaves_old_or_new(tmp_path, monkeypatch):
    run, replay = prepared(tmp_path / "count")
    total = operations_of(lambda: save(run, 3, replay, keep=2), monkeypatch)
    assert total > 25
    seen = set()
    for number in range(1, total + 1):
        run, replay = prepared(tmp_path / f"run{number}")
        count = iter(range(1, 10_000))

        def die(name, path):
            if next(count) >= number:
                raise Death

        monkeypatch.setattr(storage, "hook", die)
        with pytest.raises(Death):
            save(run, 3, replay, keep=2)
        monkeypatch.setattr(storage, "hook", None)
        found, skipped = checkpoint.newest(run)
        assert skipped == []
        fresh = Replay()
        loaded = checkpoint.load(found, None, fresh)
        assert loaded.step in {2, 3}
        assert fresh.data[0][0, 0] == (1.0 if loaded.step == 2 else 2.0)
        assert checkpoint.locate(run, "latest").name in {"step_2", f"step_{loaded.step}"}
        assert len([name for name in names(run) if name.startswith(".tmp")]) <= 1
        seen.add(loaded.step)
        save(run, 4, replay, keep=2)
        assert not [name for name in [*names(run), *os.listdir(run)] if name.startswith(".tmp")]
        assert checkpoint.newest(run)[0].name == "step_4"
        assert all(reason is None for _, reason in checkpoint.verify(run))
    assert seen == {2, 3}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_a_failure_at_every_operation_of_a_save_is_told_and_loses_nothing(tmp_path, monkeypatch, code):
    run, replay = prepared(tmp_path / "count")
    total = operations_of(lambda: save(run, 3, replay, keep=2), monkeypatch)
    for number in range(1, total + 1):
        run, replay = prepared(tmp_path / f"run{number}")
        count = iter(range(1, 10_000))

        def fail(name, path):
            if next(count) == number:
                raise OSError(code, os.strerror(code))

        monkeypatch.setattr(storage, "hook", fail)
        with pytest.raises(StorageFailure, match=str(run)):
            save(run, 3, replay, keep=2)
        monkeypatch.setattr(storage, "hook", None)
        left = [name for name in [*names(run), *os.listdir(run)] if name.startswith(".tmp")]
        assert left == [] or number >= total - 1  # the last two operations are of a checkpoint that is deleted
        assert checkpoint.reason_against(checkpoint.locate(run, "latest")) is None
        assert checkpoint.newest(run)[0].name in {"step_2", "step_3"}
        save(run, 4, replay, keep=2)
        fresh = Replay()
        assert checkpoint.load(checkpoint.locate(run, "latest"), None, fresh).step == 4
        assert np.array_equal(np.stack(fresh.data), np.stack(replay.data))


CHILD = """
import sys; from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_checkpoint import Replay, save
from estep.runs import checkpoint
run, replay = Path(sys.argv[1]), Replay()
found, skipped = checkpoint.newest(run)
assert not skipped, skipped
step = 0 if found is None else checkpoint.load(found, None, replay).step
while True:
    step += 1
    replay.data.append(replay.data[-1] if replay.chunks > 12 else __import__("numpy").zeros((16, 3), "f4"))
    del replay.data[12:]
    replay.change(step % replay.chunks, float(step))
    save(run, step, replay)
    print(step, flush=True)
"""


@pytest.mark.long
def test_sigkill_at_any_time_never_loses_an_acknowledged_checkpoint(tmp_path):
    generator, acknowledged = random.Random(3), 0
    for kills in range(300):
        if kills >= 15 and acknowledged > 15:  # on a busy machine more of them die before they save anything
            break
        command = [sys.executable, "-c", CHILD, str(tmp_path), str(Path(__file__).parent)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        first = child.stdout.readline() if kills % 4 else b""  # a quarter of them die while starting or resuming
        time.sleep(generator.uniform(0, 0.05) if first else generator.uniform(0.2, 0.5))
        child.send_signal(signal.SIGKILL)
        lines = [line for line in (first + child.communicate()[0]).split(b"\n")[:-1] if line]
        acknowledged = int(lines[-1]) if lines else acknowledged
        found, skipped = checkpoint.newest(tmp_path)
        assert skipped == []
        if found is not None:
            replay = Replay()
            loaded = checkpoint.load(found, None, replay)
            assert loaded.step >= acknowledged
            assert replay.data[loaded.step % replay.chunks][0, 0] == loaded.step
            assert len([name for name in names(tmp_path) if name.startswith(".tmp")]) <= 1
            assert checkpoint.load(checkpoint.locate(tmp_path, "latest"), None, None).step >= acknowledged
    assert acknowledged > 15
