"""A whole comparison: the tasks, their statistics, and sentences on how they were made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from estep.comparing import scores, summary
from estep.comparing.reference import Reference
from estep.comparing.scores import Task, single_tasks
from estep.comparing.sources import Found
from estep.comparing.summary import Section
from estep.errors import RejectedInput
from estep.plots import labels, starts

FEW = 5
"""With fewer seeds the page says that the intervals are wide."""
CHANCE = 20
"""Of so many intervals of 95 % one misses the truth, by how they are made."""


class Comparison(NamedTuple):
    """Everything that the page, the tables and the figures show."""

    tasks: list[Task]
    sections: list[Section]
    """Of each task."""
    over: Section | None
    """Over all tasks."""
    notes: list[str]
    """Sentences on what is compared, and on what to keep in mind."""

    @property
    def whole(self) -> list[Section]:
        """All sections, that over all tasks first."""
        return [*([self.over] if self.over else []), *self.sections]

    @property
    def record(self) -> dict[str, Any]:
        """As values of JSON."""
        return {
            "notes": self.notes,
            "tasks": [{"name": t.name, "at": t.at, "shortest": t.shortest, "longest": t.longest} for t in self.tasks],
            "statistics": [row._asdict() for section in self.whole for row in section.rows],
            "pairs": [pair._asdict() for section in self.whole for pair in section.pairs],
        }


def compare(found: Found, at: str = scores.END, reference: Reference | None = None) -> Comparison:
    """Compare the runs of some sources.

    Args:
        found: what `sources.read` returns.
        at: the number of steps at which they are compared, or `end`.
        reference: by which returns become scores; None to compare returns.

    Raises:
        RejectedInput: curves have no step in common, or the reference lacks a task.
    """
    tasks = scores.tasks(found.points, at)
    sections, over = [summary.of_task(task) for task in tasks], summary.over(tasks, reference)
    notes = [*found.notes, *_of_steps(tasks, at), *_of_seeds(tasks), *_of_scale(tasks, over, reference)]
    most = max((len(section.pairs) for section in (over, *sections) if section), default=0)
    if most > CHANCE // 4:
        notes.append(
            f"Each interval is of one pair alone. Of {CHANCE} pairs without a difference, one is expected to show one."
        )
    if any(len(task.runs) > summary.MOST for task in tasks):
        notes.append(f"With more than {summary.MOST} curves, only the best one is compared with each other one.")
    return Comparison(tasks, sections, over, notes)


def check(found: Found, by_task: bool) -> Found:
    """Refuse what is no comparison: several environments that were not said to be tasks, and fewer than two curves.

    Without `by_task` a run with several tasks counts by its mean over them.

    Raises:
        RejectedInput: it is one of these.
    """
    envs = list(dict.fromkeys(point.env for point in found.points))
    alone = [env for env in envs if not any(env.startswith(f"{other}: ") for other in envs)]
    if not by_task:
        if len(alone) > 1:
            raise RejectedInput(
                f"The runs are on different environments: {', '.join(alone)}.",
                "Give --by task to compare them on each one, or give runs on one environment.",
            )
        found = found._replace(points=[point for point in found.points if point.env in alone])
    curves = {(one.env, one.algorithm, labels.settings_key(one.settings)) for one in starts.shared(found.points)}
    if len(curves) == len({env for env, *_ in curves}):
        what = "There are no two curves to compare: all runs on an environment differ in the seed alone."
        raise RejectedInput(what, "Give runs of two algorithms, or of two values of a setting.")
    return found


def _of_steps(tasks: Sequence[Task], at: str) -> list[str]:
    notes = []
    for task in tasks:
        if task.longest > task.shortest:
            end = f"the shortest run ends at {task.shortest:,} steps and the longest at {task.longest:,}"
            notes.append(f"On {task.name} {end}: all are compared at {task.at:,}.")
        elif at != scores.END:
            notes.append(f"On {task.name} the runs are compared at {task.at:,} of {task.longest:,} steps.")
    return notes


def _of_seeds(tasks: Sequence[Task]) -> list[str]:
    notes = [
        f"{who} on {task.name}. It counts as below every other seed, so its curve has no mean there."
        for task in tasks
        for who in scores.not_finite(task)
    ]
    if any(len(runs) < FEW for task in tasks for runs in task.runs.values()):
        notes.append(
            f"A curve has fewer than {FEW} seeds: its interval is wide, and may be wrong for skewed returns. "
            "Train more seeds before you decide on it."
        )
    return notes


def _of_scale(tasks: Sequence[Task], over: Section | None, reference: Reference | None) -> list[str]:
    several = single_tasks(tasks)
    notes = ["Intervals on one task are Student's t; the probability of improvement has that of Newcombe."]
    if over and len(several) > 1:
        notes.append("Intervals over all tasks are stratified bootstraps: the seeds of each task are resampled.")
        missing = sorted({name for task in several for name in task.runs if any(name not in t.runs for t in several)})
        notes += [f"Not on every task, and so not among all tasks: {', '.join(missing)}."] if missing else []
    if reference is None:
        notes.append("Returns are not normalised.")
    else:
        notes.append(f"Scores are returns normalised by {reference.name}: its low return is 0, its high return is 1.")
        notes += [reference.note] if reference.note else []
    return notes
