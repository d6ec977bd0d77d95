"""The page of promises is that of its table, and every test that it names is there."""

import re
from pathlib import Path

import pytest
import reliability

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
ROWS = reliability.promises()
IDS = [
    *(f"R{i:02}" for i in range(1, 30)),
    *(f"N{i:02}" for i in range(1, 25)),
    *(f"D{i}" for i in range(1, 7)),
    *(f"S{i}" for i in range(1, 15)),
    *(f"F{i}" for i in range(1, 9)),
]


def test_the_page_is_that_of_the_table():
    assert PAGE.read_text("utf-8") == reliability.markdown(), (
        "run: python docs/generate/reliability.py docs/reliability.md"
    )


def test_every_promise_has_a_number():
    assert [row["id"] for row in ROWS if reliability.number_of(row["number"]) in ("", reliability.NONE)] == []


def test_every_promise_is_there_once():
    found = [row["id"] for row in ROWS]
    assert len(set(found)) == len(found)
    assert set(IDS) <= set(found)


def is_there(test):
    file, _, name = test.partition("::")
    path = ROOT / "tests" / file
    return path.is_file() and re.search(rf"^def {name}\(", path.read_text("utf-8"), re.MULTILINE) is not None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_every_test_that_it_names_is_there(row):
    assert [test for test in row["tests"].split() if not is_there(test)] == []


def test_a_test_that_is_gone_is_found():
    assert is_there("test_reliability.py::test_every_promise_is_there_once")
    assert not is_there("test_reliability.py::test_gone")
    assert not is_there("test_gone.py::test_gone")


def test_a_number_that_nobody_made_is_said():
    assert reliability.number_of("{absent:losses} losses in {absent:kills} kills") == "no"
    assert reliability.number_of("1 s") == "1 s"
