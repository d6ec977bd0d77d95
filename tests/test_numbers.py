"""Every formula of the table in docs/numerics.md: value and gradient, eagerly, under jit and under vmap."""

from pathlib import Path

import numerics
import pytest

from oracles.numbers import CASES, ELSEWHERE, MODES, errors

PAGE = Path(__file__).parents[1] / "docs" / "numerics.md"


LONG = [pytest.param(mode, marks=pytest.mark.long) for mode in MODES if mode != "vmap"]


@pytest.mark.parametrize("mode", ["vmap", *LONG])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.id} {case.what}")
def test_value_and_gradient_are_those_of_float64(case, mode):
    of_value, of_slope = errors(case, mode)
    assert of_value <= 1
    assert of_slope is None or of_slope <= 1


def test_every_row_is_there_or_elsewhere():
    assert {case.id for case in CASES} | set(ELSEWHERE) == {f"N{i:02d}" for i in range(1, 25)}


def test_the_page_has_every_row():
    text = PAGE.read_text()
    for row in numerics.rows_without_numbers():
        assert row in text, f"{row}: run PYTHONPATH=tests python docs/generate/numerics.py"
