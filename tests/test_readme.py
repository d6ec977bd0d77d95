"""The README is true: its table is that of the algorithm files, and its programs run as they stand."""

import re
from pathlib import Path

import pytest
import table

README = Path(__file__).parents[1] / "README.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)


def test_the_table_is_that_of_the_algorithm_files():
    text = README.read_text("utf-8")
    assert table.rewrite(text, table.SHORT) == text, "run: python docs/generate/table.py README.md"


def test_a_changed_docstring_would_change_the_table():
    text = README.read_text("utf-8").replace("tanh-Gaussian", "Gaussian")
    assert table.rewrite(text, table.SHORT) != text


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=["training", "functional core"])
def test_its_programs_run_as_they_stand(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    program = program.replace("steps=5_000", "steps=1_200")  # long enough for updates and an evaluation
    # the second program broadcasts as a user's code may: strictness is for our own arithmetic
    exec(compile(program, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out


def test_there_are_two_programs():
    assert len(PROGRAMS) == 2
