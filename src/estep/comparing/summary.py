"""The statistics of a comparison, each with its interval and its number of seeds.

On one task they have t intervals, which hold for few seeds; over several tasks the stratified bootstrap. A seed that
failed has no return. It counts as below all others in what depends on the order of seeds alone; means do not exist.
"""

from __future__ import annotations

import functools as ft
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from estep.comparing import statistics
from estep.comparing.reference import Reference
from estep.comparing.scores import Task, single_tasks
from estep.comparing.statistics import Array, Group
from estep.instruments.interval import Interval, difference, interquartile, interval, share_limits
from estep.plots.failures import below_all, known

OVER = "all tasks"
MOST = 20
"""Curves of which each two are compared. With more of them, the best one is compared with each other one."""
PLACES = 101
"""Scores at which a performance profile is known."""
MOMENTS = 40
"""Steps at which the sample efficiency over tasks is known."""
RETURN, SCORE = "return", "score"
Groups: TypeAlias = Mapping[str, Group]
"""The numbers of each curve by its label: of each task those of the seeds."""


class Row(NamedTuple):
    """One statistic of one curve."""

    task: str
    curve: str
    statistic: str
    value: float
    low: float
    """Limits of the 95 % interval; NaN where there is none."""
    high: float
    seeds: int
    """The fewest on a task."""
    tasks: int
    env_steps: int
    """Where the curves are compared; the fewest on a task."""


class Pair(NamedTuple):
    """Two curves."""

    task: str
    first: str
    second: str
    difference: float
    """Of the means on one task, and of the interquartile means over several."""
    low: float
    high: float
    chance: float
    """The probability that a seed of the first is above one of the second."""
    chance_low: float
    chance_high: float
    first_seeds: int
    second_seeds: int
    sentence: str


class Place(NamedTuple):
    """A point of a performance profile or of a curve of sample efficiency."""

    task: str
    curve: str
    x: float
    """A return or score for the profile, and steps for the efficiency."""
    value: float
    low: float
    high: float
    seeds: int


class Section(NamedTuple):
    """What is known on one task, or over all of them."""

    name: str
    unit: str
    """`return` or `score`."""
    rows: list[Row]
    pairs: list[Pair]
    profile: list[Place]
    efficiency: list[Place]
    """Over all tasks: the interquartile mean of the scores after each number of steps. A task has its curves."""


def of_task(task: Task) -> Section:
    """The statistics of one task, in returns."""
    groups = {name: [below_all(task.returns(name))] for name in task.runs}
    areas = {name: [task.areas(name)] for name in task.runs}
    given = {
        "mean": _each(groups, lambda group: interval(group[0])),
        "interquartile mean": _each(groups, lambda group: interquartile(group[0])),
        "median of the seeds": _each(groups, _median_of_seeds),
        "mean over all steps": _each(areas, lambda group: interval(group[0])),
    }
    rows = _rows(task.name, given, groups, task.at)
    return Section(task.name, RETURN, rows, _pairs(task.name, groups, RETURN), _profile(task.name, groups), [])


def over(found: Sequence[Task], reference: Reference | None) -> Section | None:
    """The statistics over all tasks, of the curves that each task has. Without a reference returns of several tasks are
    on no common scale: what is left is the probability of improvement.

    Raises:
        RejectedInput: the reference lacks a task.
    """
    tasks = single_tasks(found)
    if reference is None and len(tasks) < 2:
        return None
    names = [name for name in tasks[0].runs if all(name in task.runs for task in tasks)]
    if reference is None:
        returns = {name: [below_all(task.returns(name)) for task in tasks] for name in names}
        return Section(OVER, RETURN, [], [_without_scale(pair) for pair in _pairs(OVER, returns, RETURN)], [], [])
    groups = {name: [below_all(reference.scores(task.name, task.returns(name))) for task in tasks] for name in names}
    areas = {name: [reference.scores(task.name, task.areas(name)) for task in tasks] for name in names}
    given = {
        "interquartile mean": _each(groups, _interquartile_mean),
        "median over tasks": _each(groups, _median),
        "mean": _each(groups, _mean),
        "optimality gap": _each(groups, _optimality_gap),
        "mean over all steps": _each(areas, _mean),
    }
    if len(tasks) == 1:
        del given["median over tasks"]  # it is the mean
    rows = _rows(OVER, given, groups, min(task.at for task in tasks))
    efficiency = _efficiency(tasks, names, reference)
    return Section(OVER, SCORE, rows, _pairs(OVER, groups, SCORE), _profile(OVER, groups), efficiency)


def sentence(a: str, b: str, gap: Interval, unit: str = RETURN) -> str:
    """What a difference of two curves says.

    Example:
        >>> sentence("sac", "mpo", Interval(3.0, 1.0, 5.0))
        'sac has a higher return than mpo.'
        >>> sentence("sac", "mpo", Interval(3.0, -1.0, 7.0))
        'No difference of sac and mpo is shown: the interval contains 0.'
    """
    if not np.isfinite(gap.low):
        return f"{a} and {b} cannot be compared with one seed: there is no interval."
    if gap.low > 0 or gap.high < 0:
        first, second = (a, b) if gap.low > 0 else (b, a)
        return f"{first} has a higher {unit} than {second}."
    return f"No difference of {a} and {b} is shown: the interval contains 0."


def likelier(a: str, b: str, chance: Interval) -> str:
    """What a probability of improvement says.

    Example:
        >>> likelier("sac", "mpo", Interval(0.8, 0.6, 0.9))
        'On a task, a seed of sac is more often above one of mpo than below.'
    """
    if chance.low > 0.5 or chance.high < 0.5:
        first, second = (a, b) if chance.low > 0.5 else (b, a)
        return f"On a task, a seed of {first} is more often above one of {second} than below."
    return f"No difference of {a} and {b} is shown."


def _without_scale(pair: Pair) -> Pair:
    """Without the difference of returns that have no common scale."""
    text = likelier(pair.first, pair.second, Interval(pair.chance, pair.chance_low, pair.chance_high))
    return pair._replace(difference=np.nan, low=np.nan, high=np.nan, sentence=text)


def _each(groups: Groups, estimate: Callable[[Group], Interval]) -> dict[str, Interval]:
    return {name: _known(ft.partial(estimate, group)) for name, group in groups.items()}


def _known(estimate: Callable[[], Interval]) -> Interval:
    """An estimate, with NaN where a seed that failed leaves none."""
    with np.errstate(invalid="ignore"):
        return Interval(*known(estimate()))


def _resampled(statistic: Callable[..., Array], *groups: Group) -> Interval:
    low, high = statistics.bootstrap(statistic, *groups)
    return Interval(float(statistic(*groups)), float(low), float(high))


def _interquartile_mean(group: Group) -> Interval:
    return interquartile(group[0]) if len(group) == 1 else _resampled(statistics.interquartile_mean, group)


def _mean(group: Group) -> Interval:
    return interval(group[0]) if len(group) == 1 else _resampled(statistics.mean, group)


def _median(group: Group) -> Interval:
    return _resampled(statistics.median, group)


def _optimality_gap(group: Group) -> Interval:
    if len(group) > 1:
        return _resampled(statistics.optimality_gap, group)
    return interval(1.0 - np.minimum(group[0], 1.0))  # the gap of each seed, whose mean it is


def _median_of_seeds(group: Group) -> Interval:
    return Interval(float(np.median(group[0])), *statistics.median_limits(group[0]))


def _rows(task: str, given: Mapping[str, Mapping[str, Interval]], groups: Groups, at: int) -> list[Row]:
    return [
        Row(task, name, statistic, *of_curve, _fewest(groups[name]), len(groups[name]), at)
        for statistic, found in given.items()
        for name, of_curve in found.items()
    ]


def _fewest(group: Group) -> int:
    return min(map(len, group))


def _pairs(task: str, groups: Groups, unit: str) -> list[Pair]:
    """Each two curves; of many the best one and each other one."""
    if len(groups) > MOST:
        best = max(groups, key=lambda name: float(statistics.mean(groups[name])))
        couples = [(best, name) for name in groups if name != best]
    else:
        couples = list(itertools.combinations(groups, 2))
    return [_pair(task, a, b, groups, unit) for a, b in couples]


def _pair(task: str, a: str, b: str, groups: Groups, unit: str) -> Pair:
    first, second = groups[a], groups[b]
    if len(first) == 1:
        gap = _known(lambda: difference(first[0], second[0]))
        above = float(statistics.chance(first, second))
        chance = Interval(above, *statistics.chance_limits(above, len(first[0]), len(second[0])))
    else:
        gap = _known(lambda: _resampled(_gap, first, second))
        chance = _resampled(statistics.chance, first, second)
    counts = _fewest(first), _fewest(second)
    text = sentence(a, b, gap, unit)
    if not np.isfinite(gap.low) and not all(np.isfinite(group).all() for group in (*first, *second)):
        text = f"A seed failed, so {a} and {b} have no interval of their difference. {likelier(a, b, chance)}"
    return Pair(task, a, b, *gap, *chance, *counts, text)


def _gap(first: Group, second: Group) -> Array:
    return statistics.interquartile_mean(first) - statistics.interquartile_mean(second)


def _profile(task: str, groups: Groups) -> list[Place]:
    """The share of seeds above each return or score, with Wilson's interval on one task."""
    every = np.concatenate([numbers for group in groups.values() for numbers in group])
    every = every[np.isfinite(every)]
    if not every.size:
        return []
    places = np.linspace(every.min(), every.max(), PLACES).tolist() if every.min() < every.max() else [every[0]]
    found = []
    for name, group in groups.items():
        shares = statistics.profile(group, places)
        if len(group) == 1:
            limits = np.array([share_limits(share, len(group[0])) for share in shares.tolist()]).T
        else:
            limits = statistics.bootstrap(ft.partial(statistics.profile, scores=places), group)
        columns = zip(places, shares.tolist(), *limits.tolist(), strict=True)
        found += [Place(task, name, x, value, low, high, _fewest(group)) for x, value, low, high in columns]
    return found


def _efficiency(tasks: Sequence[Task], names: Sequence[str], reference: Reference) -> list[Place]:
    """The interquartile mean of the scores after each number of steps, up to the shortest task."""
    runs = [run for task in tasks for name in names for run in task.runs[name]]
    end, first = min(task.at for task in tasks), max((int(run.steps[0]) for run in runs), default=0)
    moments = sorted({int(step) for run in runs for step in run.steps if first <= step <= end})
    moments = [moments[round(i)] for i in np.linspace(0, len(moments) - 1, min(MOMENTS, len(moments)))]
    found = []
    for name in names:
        for moment in moments:
            returns = {task.name: np.array([run.at(moment) for run in task.runs[name]]) for task in tasks}
            at = [below_all(reference.scores(of, each)) for of, each in returns.items()]
            middle = _known(ft.partial(_interquartile_mean, at))
            found.append(Place(OVER, name, moment, *middle, _fewest(at)))
    return found
