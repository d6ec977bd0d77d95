"""Runs that begin with another run, each seed with one of its own: they are the seeds of one curve."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, TypeVar

from estep.plots import labels
from estep.policy.starts.of_seed import STARTS

OF_EACH_SEED = "one of each seed"
"""Their value where each seed of a curve names a run of its own."""
R = TypeVar("R", bound=tuple[Any, ...])


def shared(rows: Sequence[R]) -> list[R]:
    """The lines of some runs, in which those runs share their settings that differ only in the run with which each
    begins: what comes before is trained again for each seed, so each seed names another run.

    Runs with which two seeds begin are what is compared, and stay as they are; so do two runs of one seed.

    Args:
        rows: named tuples whose first fields are those of `labels.LABEL_FIELDS`.
    """
    runs = dict.fromkeys(row[: len(labels.LABEL_FIELDS)] for row in rows)
    parted = {settings: _parted(settings) for _, _, settings, _ in runs}
    groups: dict[Hashable, dict[tuple[Any, ...], set[int]]] = {}
    for env, algorithm, settings, seed in runs:
        others, begun = parted[settings]
        groups.setdefault((env, algorithm, others), {}).setdefault(begun, set()).add(seed)
    differ = {of: _own(starts) for of, starts in groups.items()}
    written = {
        run: labels.replaced(run[2], dict.fromkeys(own, OF_EACH_SEED))
        for run in runs
        if (own := differ[run[0], run[1], parted[run[2]][0]])
    }
    return [
        row._replace(settings=written[run]) if (run := row[: len(labels.LABEL_FIELDS)]) in written else row  # type: ignore[attr-defined]
        for row in rows
    ]


def _parted(settings: str) -> tuple[Hashable, tuple[Any, ...]]:
    """The settings that name no run, and those that name one, in the order of STARTS."""
    values, whole = labels.recorded(settings)
    begun = tuple(values.get(name, "") for name in STARTS)
    others = labels.Recorded({name: value for name, value in values.items() if name not in STARTS}, whole)
    return (others.key, tuple(map(bool, begun))), begun


def _own(starts: dict[tuple[Any, ...], set[int]]) -> list[str]:
    """The settings that name another run for each seed."""
    seeds = [seed for of in starts.values() for seed in of]
    if len(starts) < 2 or len(seeds) != len(starts) or len(set(seeds)) != len(seeds):
        return []
    return [name for name, *values in zip(STARTS, *starts, strict=True) if len(set(values)) > 1]
