"""A short part of `make fuzz`, and that it finds what it looks for."""

from pathlib import Path

import fuzz
import pytest

BASE = Path(__file__).parent / "releases" / "0.1.0" / "sac-Pendulum-v1" / "checkpoints"


@pytest.mark.parametrize("name", fuzz.targets())
def test_a_parser_gives_a_value_or_one_of_its_own_errors(name, tmp_path):
    tried, kept, broken = fuzz.fuzz(name, 0.3, tmp_path)
    assert tried > 20
    assert not broken
    assert len(list(tmp_path.iterdir())) == kept
    assert fuzz.fuzz(name, 0.0, tmp_path)[0] >= kept  # the corpus is read again


def test_a_parser_that_breaks_is_found(monkeypatch):
    def parse(data):
        if data.count(b"1") > 3:
            raise ZeroDivisionError
        raise ValueError

    monkeypatch.setattr(fuzz, "targets", lambda: {"x": fuzz.Target(parse, (ValueError,), [b"11"])})
    assert fuzz.fuzz("x", 0.3)[2]


def test_a_mutant_of_a_checkpoint_loads_exactly_or_is_refused():
    (sound,) = BASE.iterdir()
    refused, wrong = fuzz.fuzz_checkpoints(sound, 100, seed=1)
    assert not wrong
    assert 50 < refused <= 100


@pytest.mark.long
def test_thousands_of_mutants_load_exactly_or_are_refused():
    (sound,) = BASE.iterdir()
    assert fuzz.fuzz_checkpoints(sound, 20_000, seed=2)[1] == []


def test_a_mutant_that_loads_with_other_content_is_found(monkeypatch):
    (sound,) = BASE.iterdir()
    monkeypatch.setattr(fuzz, "mutate_checkpoint", lambda rng, path: fuzz.vouch_for_another(path))
    assert fuzz.fuzz_checkpoints(sound, 1)[1]
