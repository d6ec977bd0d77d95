"""What only Linux has is done without elsewhere: the calls are taken away."""

import os
from pathlib import Path

import pytest

from estep.cli import health
from estep.data import memory
from estep.runs import folder, provenance


@pytest.fixture
def elsewhere(monkeypatch):
    """A system without affinities, sizes of memory, and /proc, as macOS is."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "sysconf", lambda name: (_ for _ in ()).throw(ValueError(name)))
    real = Path.read_text

    def read_text(path, *options, **more):
        if str(path).startswith("/proc"):
            raise FileNotFoundError(path)
        return real(path, *options, **more)

    monkeypatch.setattr(Path, "read_text", read_text)


def test_a_run_is_described(elsewhere):
    found = provenance.hardware()
    assert found["cores"] == os.cpu_count()
    assert found["memory"] is None
    assert found["cpu"]


def test_the_doctor_does_not_fail_for_what_it_cannot_know(elsewhere):
    checks = {name: health._run(name, health.CHECKS[name]) for name in ("cores", "memory")}
    assert all(check.ok for check in checks.values())
    assert "not known" in checks["memory"].found
    assert list(memory.available(Path("/"))) == []


def test_a_process_is_known_by_its_number():
    assert folder.is_alive(os.getpid())
    assert folder.is_alive(1)  # of another user, as a rule
    assert not folder.is_alive(2**22 + 1)  # above the largest number of Linux and of macOS
    assert not folder.is_alive(2**80)
