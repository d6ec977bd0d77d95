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
    """Notes once where rewards are small: beside those of another task, so that one critic hardly sees them, or beside
    the price of the KL, where it is fixed."""

    def __init__(self, tasks: Sequence[str], price: float, note: Callable[[str], None]) -> None:
        """Begin to watch.

        Args:
            tasks: names of the tasks.
            price: the temperature where it is fixed, in units of reward per nat; 0 where it is learned.
            note: called with a line for the user.
        """
        self._tasks, self._price, self._note = tasks, price, note
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
            spreads = [float(np.std(seen)) for seen in self._rewards]
            self._compare(spreads)
            self._compare_price(spreads)
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

    def _compare_price(self, spreads: Sequence[float]) -> None:
        pairs = zip(self._tasks, spreads, strict=True)
        small = [f"{task} ({spread:.3g})" for task, spread in pairs if 0 < spread < self._price]
        if small:
            self._note(
                f"note     a nat of the KL costs {self._price:g}, more than the standard deviation of the rewards of "
                f"{', '.join(small)}: policies may learn little else. Give a larger --reward-scale, or smaller prices, "
                "such as --kl-cost"
            )
