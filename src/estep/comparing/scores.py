"""The evaluations of several runs, ordered: on each task the curves, and of each curve the seeds."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from estep.comparing.statistics import Array
from estep.errors import RejectedInput
from estep.plots import labels, starts
from estep.plots.learning_curves import Point, Seeds, curves

END = "end"
Names = dict[tuple[str, str], str]
"""The label of each curve of a task by algorithm and settings."""


class Run(NamedTuple):
    """The evaluations of one seed."""

    seed: int
    steps: Array
    returns: Array
    reached: bool
    """Whether it ended because it had reached the return of --stop-at."""

    @property
    def failed(self) -> bool:
        """Whether its last evaluation is no number: it has no return from there on, and ends no comparison."""
        return not math.isfinite(self.returns[-1])

    def at(self, steps: int) -> float:
        """The return of the last evaluation up to a number of steps."""
        return float(self.returns[np.searchsorted(self.steps, steps, "right") - 1])

    def area(self, steps: int) -> float:
        """The area below the curve from its first evaluation to a number of steps, divided by these steps."""
        known = self.steps <= steps
        xs, ys = np.append(self.steps[known], steps), np.append(self.returns[known], self.at(steps))
        return float(np.trapezoid(ys, xs) / (steps - xs[0])) if steps > xs[0] else float(ys[-1])


class Task(NamedTuple):
    """One environment, or one of the tasks of a run with several."""

    name: str
    runs: Mapping[str, Sequence[Run]]
    """The seeds of each curve by its label."""
    drawn: Mapping[str, Sequence[Seeds]]
    """The points of each curve by its label."""
    shortest: int
    """The last step that every seed of every curve has, those that reached their goal and those that failed aside."""
    longest: int
    at: int
    """The step at which the curves are compared."""

    def returns(self, name: str) -> Array:
        """The return of each seed of a curve where the curves are compared."""
        return np.array([run.at(self.at) for run in self.runs[name]])

    def areas(self, name: str) -> Array:
        """The mean return of each seed of a curve over the steps up to there."""
        return np.array([run.area(self.at) for run in self.runs[name]])


def tasks(found: Sequence[Point], at: str = END) -> list[Task]:
    """Order evaluations by task, curve and seed.

    Args:
        found: the evaluations.
        at: the number of steps at which the curves are compared, or `end`: where the shortest one of a task ends.

    Raises:
        RejectedInput: curves have no step in common, or not this one.
    """
    found = starts.shared(found)
    rows = curves(found)
    named = _differing(rows)
    by_env: dict[str, list[Point]] = {}
    for point in sorted(found, key=lambda point: point.env_steps):
        by_env.setdefault(point.env, []).append(point)
    of_env = {env: [row for row in rows if row.env == env] for env in by_env}
    return [_task(env, points, of_env[env], _names(of_env[env], named), at) for env, points in by_env.items()]


def _task(env: str, found: Sequence[Point], rows: Sequence[Seeds], names: Names, at: str) -> Task:
    by_key = {(of[0], labels.settings_key(of[1])): name for of, name in names.items()}
    seeds: dict[str, dict[int, list[Point]]] = {name: {} for name in names.values()}
    for point in found:
        name = by_key[point.algorithm, labels.settings_key(point.settings)]
        seeds[name].setdefault(point.seed, []).append(point)
    runs = {name: [_run(points) for points in of.values()] for name, of in seeds.items()}
    every = [run for of in runs.values() for run in of]
    sound = [run for run in every if not run.failed] or every
    longest = int(max(run.steps[-1] for run in sound))
    shortest = int(min((run.steps[-1] for run in sound if not run.reached), default=longest))
    first = int(max(run.steps[0] for run in sound))
    drawn: dict[str, list[Seeds]] = {name: [] for name in names.values()}
    for row in rows:
        drawn[names[row.algorithm, row.settings]].append(row)
    return Task(env, runs, drawn, shortest, longest, _at(at, env, first, shortest))


def _differing(rows: Sequence[Seeds]) -> dict[str, set[str]]:
    """The settings in which curves of an algorithm differ on some task. What differs between tasks alone, such as by
    their presets, is not among them."""
    found: dict[str, set[str]] = {}
    for env, algorithm in dict.fromkeys((row.env, row.algorithm) for row in rows):
        of = [row.settings for row in rows if (row.env, row.algorithm) == (env, algorithm)]
        found.setdefault(algorithm, set()).update(labels.differing(dict.fromkeys(of)))
    return found


def _names(rows: Sequence[Seeds], named: Mapping[str, Collection[str]]) -> Names:
    """A label for each curve of a task by algorithm and settings, which names the settings in which curves of one
    algorithm differ, on this task or on another. So an algorithm has the same label on all tasks, whatever their
    presets are. Marks that would turn the rest of a sentence round are written as their numbers."""
    every = dict.fromkeys((row.algorithm, row.settings) for row in rows)
    found: Names = {}
    for algorithm in dict.fromkeys(algorithm for algorithm, _ in every):
        mine = [curve for curve in every if curve[0] == algorithm]
        for of, name in labels.labels(mine, besides=sorted(named[algorithm])).items():
            name = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)
            # Numbers may look the same when they are written short.
            same = sum(known.partition(" #")[0] == name for known in found.values())
            found[of] = f"{name} #{same + 1}" if same else name
    return found


def _run(points: Sequence[Point]) -> Run:
    last = points[-1]
    reached = labels.reached_goal(last.settings, last.env_steps, last.mean)
    steps = np.array([point.env_steps for point in points])
    return Run(last.seed, steps, np.array([point.mean for point in points]), reached)


def _at(at: str, env: str, first: int, shortest: int) -> int:
    """The step of a comparison. Raises RejectedInput where some seed has no evaluation up to there."""
    steps = shortest if at == END else int(at)
    if steps > shortest:
        what = f"--at {steps} is after the end of the shortest curve on {env}, which is at {shortest} steps."
        raise RejectedInput(what, f"Give --at {shortest} or less, or --at end, or leave the shortest run out.")
    if steps < first:
        what = f"A run on {env} has its first evaluation at {first} steps, after step {steps} of the comparison."
        raise RejectedInput(what, f"Give --at {first} or more, or leave that run out.")
    return steps


def single_tasks(found: Sequence[Task]) -> list[Task]:
    """Without those that are means over other ones, as runs with several tasks have."""
    names = [task.name for task in found]
    return [task for task in found if not any(name.startswith(f"{task.name}: ") for name in names)]


def not_finite(task: Task) -> list[str]:
    """The seeds without a return where the curves are compared, and why."""
    return [
        f"{name}, seed {run.seed} {'failed' if run.failed else 'has no finite return'}"
        for name, runs in task.runs.items()
        for run in runs
        if not math.isfinite(run.at(task.at))
    ]
