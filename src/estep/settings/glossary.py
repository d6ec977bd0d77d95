"""What every setting, metric and term means, as entries: of `estep explain` and of docs/glossary.md alike."""

from __future__ import annotations

import functools as ft
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from estep.settings import metrics, renamed, schema, terms
from estep.settings.kinds import kind_of, limits
from estep.settings.numbers import metric
from estep.settings.numbers.metric import Metric
from estep.settings.schema import Field
from estep.settings.terms import Term

ALGORITHM, RUN, TERM = "Settings of the algorithms", "Settings of a run", "Terms"
FILES = {
    metric.METRICS_FILE: "Metrics in metrics.jsonl",
    metric.EVAL_FILE: "Columns of eval.csv",
    metric.EPISODES_FILE: "Columns of episodes.csv",
    metric.BOARD: "TensorBoard only",
    metric.PROGRESS: "The progress line",
    metric.RESULT: "The result of a command (--json)",
}
TOPICS = (ALGORITHM, RUN, *FILES.values(), TERM)


class Entry(NamedTuple):
    """One thing explained."""

    topic: str
    name: str
    meaning: str
    facts: tuple[tuple[str, str], ...]
    """What else there is to say, as pairs of a label and a text."""


class Use(NamedTuple):
    """A setting as one owner has it."""

    owner: str
    """An algorithm's name, or `run`."""
    field: Field

    @property
    def kind(self) -> tuple[str, str]:
        """Its meaning and its limits, in words."""
        flag = self.field.flag
        switch = f"yes ({flag}) or no ({flag.replace('--', '--no-')})"
        return kind_of(self.field.hint).help, switch if self.field.kind is bool else limits(self.field.hint)


@ft.cache
def entries() -> tuple[Entry, ...]:
    """Everything there is to explain, by topic; settings and terms by name."""
    algorithms = [Use(row.name, field) for row in schema.rows().values() for field in row.fields]
    run = [Use("run", field) for field in schema.run_fields()]
    return (
        *_settings(ALGORITHM, algorithms),
        *_settings(RUN, run),
        *sorted(map(_metric, metrics.METRICS), key=lambda entry: TOPICS.index(entry.topic)),
        *sorted(map(_term, terms.TERMS), key=lambda entry: entry.name.lower()),
    )


def find(name: str) -> list[Entry]:
    """The entries of a setting, flag, metric, term or symbol; of a setting by its names of before and elsewhere too.

    Example:
        >>> [entry.topic for entry in find("--discount")]
        ['Settings of the algorithms', 'Terms']
    """
    word = name.removeprefix("--")
    setting = word.replace("-", "_").removeprefix("no_")
    named = {setting, renamed.SETTINGS.get(setting, setting), renamed.ELSEWHERE.get(setting, setting)}
    found = {_metric(metric) for metric in metrics.find(word)} | {_term(term) for term in terms.find(word)}
    return [entry for entry in entries() if entry in found or (entry.topic in (ALGORITHM, RUN) and entry.name in named)]


def known_names() -> list[str]:
    """Every name that can be explained, once."""
    return list(dict.fromkeys(entry.name for entry in entries()))


def _settings(topic: str, uses: Iterable[Use]) -> Iterator[Entry]:
    """One entry for each meaning of a setting."""

    def order(use: Use) -> tuple[str, tuple[str, str]]:
        return use.field.name, use.kind

    for (name, (meaning, allowed)), group in itertools.groupby(sorted(uses, key=order), order):
        same = list(group)
        facts = [("flag", same[0].field.flag), ("value", allowed), ("default", _defaults(same))]
        facts += [(use.owner, use.field.note) for use in same if use.field.note]
        facts += [("old name", "--" + old.replace("_", "-")) for old, new in renamed.SETTINGS.items() if new == name]
        yield Entry(topic, name, meaning, tuple(facts))


def _defaults(uses: Iterable[Use]) -> str:
    """The defaults, each with the algorithms that have it."""
    owners: dict[str, list[str]] = {}
    for use in uses:
        owners.setdefault(plain(use.field.default), []).append(use.owner)
    if list(owners.values()) in ([["run"]], [list(schema.rows())]):
        return next(iter(owners))
    return ", ".join(f"{value} ({', '.join(names)})" for value, names in owners.items())


def plain(value: Any) -> str:
    """A value in words."""
    if value is None or value == "" or value == ():
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(plain, value)) if isinstance(value, tuple) else str(value)


def _metric(metric: Metric) -> Entry:
    facts = [("unit", metric.unit), ("when", metric.appears), ("shown as", metric.shown)]
    return Entry(FILES[metric.file], metric.name, metric.meaning, tuple(fact for fact in facts if fact[1]))


def _term(term: Term) -> Entry:
    return Entry(TERM, term.name, term.meaning, (("symbol", term.symbol),) if term.symbol else ())
