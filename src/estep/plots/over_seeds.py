"""What was measured in the runs of a curve, as means over its seeds.

The interval of a single run is over its states or episodes. It says nothing of other seeds; these do.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from estep.instruments.interval import interval
from estep.plots import labels, starts

Line = Mapping[str, Any]
"""A line of a table over several runs, by column."""


IN_WORDS = {"iteration": "iteration {}", "iterations": "{} iterations", "beta": "β = {}", "steps": "{} steps"}
"""How people are told at which number a quantity was measured, by the column that has the number."""


class Quantity(NamedTuple):
    """A number in each run, such as its gap, or its gain after so many iterations."""

    instrument: str
    """The table that has it: an instrument of `estep inspect`, or critics."""
    column: str
    of: str = ""
    """The column that says what it was measured of: an optimiser, an objective."""
    at: str = ""
    """The column that says at which number: of iterations, of imagined steps, β."""


QUANTITIES = {
    "improvement": Quantity("improvement", "mean", at="iteration"),
    "gap": Quantity("gap", "total"),
    "gap, approximation": Quantity("gap", "approximation"),
    "gap, amortisation": Quantity("gap", "amortisation"),
    "gap, other objective": Quantity("transfer", "missing", "objective", "iterations"),
    "over-estimation": Quantity("calibration", "mean", at="beta"),
    "gain, predicted": Quantity("realised", "predicted", "optimiser", "iterations"),
    "gain, realised": Quantity("realised", "realised", "optimiser", "iterations"),
    "gain, control": Quantity("realised", "control", "optimiser", "iterations"),
    "model error": Quantity("model", "error", at="steps"),
    "model coverage": Quantity("model", "coverage", at="steps"),
    "Q̂": Quantity("critics", "value"),
    "critics' disagreement": Quantity("critics", "disagreement"),
}
"""What is averaged, by its name in the table."""


class Number(NamedTuple):
    """One number that was measured in one run."""

    env: str
    algorithm: str
    settings: str
    seed: int
    quantity: str
    of: str
    at: str
    value: float


class OverSeeds(NamedTuple):
    """The mean of one quantity over the seeds of a curve, and its 95 % interval (Student's t)."""

    env: str
    algorithm: str
    settings: str
    quantity: str
    of: str
    """An optimiser or an objective, where the quantity has several."""
    at: str
    """A number of iterations or of imagined steps, or β, where the quantity has several."""
    seeds: int
    mean: float
    low: float
    high: float

    @property
    def subject(self) -> str:
        """Of what it is, and at which number, in words."""
        column = QUANTITIES[self.quantity].at if self.quantity in QUANTITIES else ""
        no_number = not column or (column == "iterations" and self.at == "0")
        return ", ".join(filter(None, (self.of, "" if no_number else IN_WORDS[column].format(self.at))))


def over_seeds(measured: Mapping[str, Sequence[Line]]) -> list[OverSeeds]:
    """The means over the seeds of each curve. For a single seed the limits are NaN.

    Args:
        measured: tables over several runs, by the name of the instrument.

    Example:
        >>> line = {"env": "E", "algorithm": "sac", "settings": "{}", "total": 1.0}
        >>> found = over_seeds({"gap": [line | {"seed": 0}, line | {"seed": 1, "total": 3.0}]})
        >>> found[0].quantity, found[0].seeds, found[0].mean
        ('gap', 2, 2.0)
    """
    return means(list(_numbers(measured)))


def means(numbers: Sequence[Number]) -> list[OverSeeds]:
    """The means over the seeds of each curve, curve by curve. Of a seed that is there twice, the last number counts."""
    groups: dict[Hashable, dict[int, Number]] = {}
    for number in starts.shared(numbers):
        curve = number.env, number.algorithm, labels.settings_key(number.settings)
        groups.setdefault((curve, number.quantity, number.of, number.at), {})[number.seed] = number
    by_curve: dict[Hashable, list[OverSeeds]] = {}
    for group in groups.values():
        one, found = next(iter(group.values())), interval([number.value for number in group.values()])
        about = one.env, one.algorithm, labels.shared(one.settings)
        by_curve.setdefault(about, []).append(OverSeeds(*about, one.quantity, one.of, one.at, len(group), *found))
    return [row for rows in by_curve.values() for row in rows]


def _numbers(measured: Mapping[str, Sequence[Line]]) -> Iterator[Number]:
    """All numbers, in the order of `QUANTITIES`. A table of before may lack a column."""
    for name, quantity in QUANTITIES.items():
        for line in measured.get(quantity.instrument, ()):
            if quantity.column not in line:
                continue
            at = f"{float(line[quantity.at]):g}" if quantity.at else ""
            value = float("nan" if line[quantity.column] == "" else line[quantity.column])
            about = str(line["env"]), str(line["algorithm"]), str(line["settings"]), int(line["seed"])
            yield Number(*about, name, str(line[quantity.of]) if quantity.of else "", at, value)
