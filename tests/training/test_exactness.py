"""A run says whether it can be repeated to the bit, and goes on elsewhere only if that is allowed (D6)."""

import itertools
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from child import Notes, metrics, resume, train

from estep.errors import UsageError
from estep.runs import checkpoint, manifest, provenance
from estep.runs.folder import RunFolder
from estep.training import update


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run, and what it reported."""
    notes = Notes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update, "PROBE_SECONDS", 1e9)  # a busy machine makes fewer
        return train(tmp_path_factory.mktemp("exact"), report=notes, steps=80).run_dir, notes


@pytest.fixture
def copy(done, tmp_path):
    return shutil.copytree(done[0], tmp_path / "run")


def test_the_label_is_reported_and_recorded(done):
    run_dir, notes = done
    assert notes.said("exact    52 updates made twice gave equal bits")  # blocks of four
    record = RunFolder.open(run_dir).read_run()["exactness"]
    saved = manifest.read(checkpoint.newest(run_dir)[0]).meta["machine"]
    assert record["label"] == saved["label"] == "exact"
    assert record["probed"] == 52
    for name in ("versions", "cpu", "threads", "device", "flags"):
        assert record[name] == saved[name] == provenance.machine()[name]
    assert saved["versions"]["jax"]


def test_the_probe_changes_no_update(done):
    """The run has as many updates as it is due, and its agent is that of updates which are made once."""
    assert metrics(done[0])[-1]["updates"] == 40


def probed(monkeypatch, results, seconds=None):
    """An `Improve` whose updates have these results in turn, after its first block."""
    given = iter(results)
    monkeypatch.setattr(update, "improve", lambda agent, *rest: (agent, (None, {"loss": np.float32(next(given))})))
    if seconds is not None:
        clock = itertools.count(0, seconds)
        monkeypatch.setattr(update.time, "monotonic", lambda: next(clock))
    notes = []
    made = update.Improve(set(), notes.append)
    batches = type("Batches", (), {"reward": np.zeros((10, 1))})()
    result = made({"w": jnp.ones(2)}, batches, None, 0, None)
    return made, notes, float(result[1][1]["loss"])


def test_other_bits_are_seen(monkeypatch):
    made, notes, result = probed(monkeypatch, [1, 1, 1, 1.0000001, 1])
    assert (made.label, made.probed, result) == ("replayable", 30, 1.0)
    assert notes[-1] == "replayable 30 updates made twice gave other bits"


def test_slow_updates_are_made_twice_only_once(monkeypatch):
    made, _, _ = probed(monkeypatch, [1] * 9, seconds=5.0)
    assert (made.label, made.probed) == ("exact", 10)


ELSEWHERE = {"jax": "0.0.1", "threads": 999, "cpu": "Another", "device": "gpu", "flags": "--xla_other"}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_run_goes_on_elsewhere_only_if_that_is_allowed(copy, monkeypatch, name):
    here = provenance.machine()
    there = {**here, name: ELSEWHERE[name]}
    if name == "jax":
        there = {**here, "versions": {**here["versions"], name: ELSEWHERE[name]}}
    monkeypatch.setattr(provenance, "machine", lambda: there)
    with pytest.raises(UsageError, match=f"{name} .* now") as caught:
        resume(copy, steps=84)
    assert "--allow-drift" in caught.value.fix
    assert "drifts" not in RunFolder.open(copy).read_run()
    if name == "jax":
        notes = Notes()
        assert resume(copy, steps=84, allow_drift=True, report=notes).env_steps == 84
        assert notes.said("drift    jax")
        (drift,) = RunFolder.open(copy).read_run()["drifts"]
        assert drift["env_steps"] == 80
        assert "0.0.1 now" in drift["changes"][0]
        resume(copy, steps=88)  # on the same machine again
        assert manifest.read(checkpoint.newest(copy)[0]).meta["machine"]["label"] == "exact"


def test_a_checkpoint_of_before_says_nothing_of_its_machine():
    assert provenance.drift(None, provenance.machine()) == []
