"""What a run with several tasks knows of each: its last episodes, and the spread of its rewards."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from estep.core.types import Floats
from estep.envs.base import Episode

WATCHED = 1_000
"""Steps of each task at the beginning of a run whose rewards are compared."""
TENFOLD = 10.0


class OfTasks:
    """Returns and successes of the last training episodes of each task; empty with one environment."""

    def __init__(self, tasks: Collection[str], recent: int) -> None:
        """Begin without episodes.

        Args:
            tasks: names of the tasks.
            recent: how many episodes of each are remembered.
        """
        self._names = list(tasks)
        self.returns: dict[str, deque[float]] = {task: deque(maxlen=recent) for task in tasks}
        self.successes: dict[str, deque[float]] = {task: deque(maxlen=recent) for task in tasks}

    def add(self, episode: Episode) -> None:
        """Remember an episode."""
        if self._names:
            self.returns[episode.task].append(episode.total)
            self.successes[episode.task].extend(() if episode.success is None else (episode.success,))

    def named(self, metric: str) -> str:
        """The metric of a task by its name, where an update has it by its number, such as m/kl/0.

        Example:
            >>> OfTasks(["run", "walk"], 10).named("m/kl/1")
            'm/kl/walk'
        """
        head, _, number = metric.rpartition("/")
        return f"{head}/{self._names[int(number)]}" if self._names and "/" in head else metric

    def record(self) -> list[dict[str, Any]]:
        """The episodes as JSON values, which `load` reads."""
        pairs = zip(self.returns.values(), self.successes.values(), strict=True)
        return [{"returns": list(returns), "successes": list(successes)} for returns, successes in pairs]

    def load(self, saved: Sequence[Mapping[str, Any]]) -> None:
        """Load what `record` gave. Raises KeyError, TypeError or ValueError if it is malformed."""
        for one, returns, successes in zip(saved, self.returns.values(), self.successes.values(), strict=True):
            returns.extend(float(value) for value in one["returns"])
            successes.extend(float(value) for value in one["successes"])


class SpreadWatch:
    """Notes once where the rewards of two tasks differ so much in spread that one critic hardly sees the smaller."""

    def __init__(self, tasks: Sequence[str], note: Callable[[str], None]) -> None:
        """Begin to watch.

        Args:
            tasks: names of the tasks.
            note: called with a line for the user.
        """
        self._tasks, self._note = tasks, note
        self._rewards: list[list[float]] | None = [[] for _ in tasks] if tasks else None

    def add(self, reward: Floats, valid: npt.NDArray[np.bool_]) -> None:
        """Look at the rewards [E] of a step that is good where `valid`."""
        if self._rewards is None:
            return
        each = len(reward) // len(self._tasks)
        for i, seen in enumerate(self._rewards):
            part = slice(i * each, (i + 1) * each)
            seen.extend(reward[part][valid[part]].tolist())
        if min(map(len, self._rewards)) >= WATCHED:
            self._compare([float(np.std(seen)) for seen in self._rewards])
            self._rewards = None

    def _compare(self, spreads: Sequence[float]) -> None:
        large, small = int(np.argmax(spreads)), int(np.argmin(spreads))
        if spreads[large] <= TENFOLD * spreads[small]:
            return
        factors = " ".join(f"{min(spreads[large] / max(spread, 1e-8), 1e8):.3g}" for spread in spreads)
        self._note(
            f"note     rewards of {self._tasks[large]} have a standard deviation of {spreads[large]:.3g}, those of "
            f"{self._tasks[small]} one of {spreads[small]:.3g}, and one critic learns both. "
            f"With --reward-scale {factors} they would be alike"
        )
