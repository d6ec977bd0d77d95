"""Every number that a run writes, said once: its name, where it is written, its unit and when it is there.

`estep explain` and docs/glossary.md read this table, and a test holds it to the code that writes the numbers. Nothing
here imports JAX.
"""

from __future__ import annotations

from estep.settings.numbers.metric import Metric
from estep.settings.numbers.records import RECORDS
from estep.settings.numbers.updates import UPDATES

METRICS = (*UPDATES, *RECORDS)


def find(name: str) -> list[Metric]:
    """The entries of a name or of a word of the progress line, or else the first whose pattern it has."""
    exact = [metric for metric in METRICS if name in (metric.name, metric.shown)]
    return exact or [metric for metric in METRICS if metric.stands_for(name)][:1]
