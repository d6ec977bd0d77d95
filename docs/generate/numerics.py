"""Writes docs/numerics.md: the formulas at the edge of float32, and their largest errors.

python docs/generate/numerics.py
"""

from __future__ import annotations

from pathlib import Path

from estep.runs import storage
from oracles.numbers import CASES, ELSEWHERE, MODES, Case, errors

PAGE = Path(__file__).parents[1] / "numerics.md"

HEAD = """# Numbers at the edge of float32

Written by `PYTHONPATH=tests python docs/generate/numerics.py`. It runs each formula operation by operation (eagerly),
compiled (`jit`) and compiled over all points at once (`vmap`), with its gradient. The last columns have the largest
errors of value and gradient over all points, as a part of what is allowed: at most 1. Allowed is a relative and an
absolute error from the value in float64. Where a gradient has no number it must be finite, and "none" is a formula that
nothing differentiates. `tests/test_numbers.py` asks for the same.

| row | formula | points | largest input | allowed | {modes} |
|---|---|---|---|---|{lines}|
"""
TAIL = """
Rows without a gradient, or not computed in JAX:

"""


def start(case: Case) -> str:
    """What a row says before anything is measured."""
    relative, absolute = case.tolerance
    largest = f"{abs(case.points).max():.0e}"
    what = case.what.replace("|", "\\|")
    return f"| {case.id} | {what} | {len(case.points)} | {largest} | {relative:g}, {absolute:g} |"


def rows_without_numbers() -> list[str]:
    """The beginnings of all rows, and the lines of what is elsewhere."""
    return [*map(start, CASES), *(f"- {name}: {why}." for name, why in ELSEWHERE.items())]


def measured(case: Case) -> str:
    """The errors of a row, value and gradient, in each mode."""
    cells = []
    for mode in MODES:
        value, slope = errors(case, mode)
        known = "none" if not case.differentiated else "finite" if slope is None else f"{slope:.2g}"
        cells.append(f"{value:.2g}, {known}")
    return " | ".join(cells)


def main() -> None:
    head = HEAD.format(modes=" | ".join(MODES), lines="|".join("---" for _ in MODES))
    rows = "\n".join(f"{start(case)} {measured(case)} |" for case in CASES)
    rest = "\n".join(f"- {name}: {why}." for name, why in ELSEWHERE.items())
    storage.write_atomic(PAGE, f"{head}{rows}\n{TAIL}{rest}\n".encode())


if __name__ == "__main__":
    main()
