"""The environments of one kind in one worker process, as the run sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from estep.envs.elsewhere.layout import OUTCOMES, RESET, STEP, Raised, answers, leaves, record
from estep.envs.elsewhere.worker import Worker
from estep.envs.paths import nested
from estep.errors import EnvironmentFailure


class Place(NamedTuple):
    """The environments of one kind in one worker."""

    key: int
    """A number of the kind, below 256."""
    source: tuple[str, bool]
    """What makes one: an id and True, or the `module:name` of a function and False."""
    rows: range
    """Their numbers among all environments of the kind."""
    name: str

    @property
    def who(self) -> str:
        """Its environments, for messages."""
        first, last = self.rows[0], self.rows[-1]
        return f"environment{f's {first} to' if last > first else ''} {last} of {self.name}"


class Part:
    """What the run knows of a place: its worker and their memory."""

    def __init__(self, worker: Worker, place: Place) -> None:
        self.worker, self.place = worker, place
        self.facts: tuple[Any, ...] = ()
        """Observation space, action space, time limit and id."""
        self.generation = 0
        """How often its environments were made."""
        self.messages: dict[tuple[str, int], Any] = {}
        self._under_way = False

    def begin(self) -> None:
        """Ask for the environments."""
        self.worker.tell("make", self.place.key, *self.place.source, len(self.place.rows))

    def attach(self) -> None:
        """Wait for the environments, and share memory with them.

        Raises:
            UsageError, EnvironmentFailure: they cannot be made, or have other spaces than before.
        """
        facts = self.worker.told(self.place.who)
        self._check(facts)
        self.facts, self.generation, self._under_way = facts, self.generation + 1, False
        kind, count = record(*facts[:2]), len(self.place.rows)
        memory, begin, size = self.worker.reserve(kind.itemsize * count)
        self.worker.ask(self.place.who, "attach", self.place.key, begin, size)
        records = np.frombuffer(memory, kind, count, begin)
        self.actions, self.seeds, self.wanted = (records[name] for name in ("action", "seed", "wanted"))
        self.answers = {name: answers(records, name) for name in (STEP, RESET)}
        self.paths = [leaf.path for leaf in leaves(facts[0])]

    def remake(self, row: int) -> None:
        """Make one environment anew. Raises as `attach` does."""
        self._check(self.worker.ask(self.place.who, "remake", self.place.key, row, *self.place.source))

    def _check(self, facts: tuple[Any, ...]) -> None:
        if self.facts and facts[:2] != self.facts[:2]:
            what = f"{self.place.name} has other spaces after it was made anew."
            raise EnvironmentFailure(what, "Let the environment have the same spaces each time it is made.")

    def start(self) -> None:
        """Begin the steps that were prepared."""
        self._under_way = True
        self.worker.start_steps(self.place.key)

    def seed(self, seeds: Sequence[int]) -> None:
        """Do nothing: every reset takes its seed."""

    def finish(self) -> None:
        """Wait for the steps. Raises EnvironmentFailure if the worker has ended or does not answer."""
        if self._under_way:
            self._under_way = False
            self.messages |= self.worker.finished(self.place.who)

    def reset(self, row: int, seed: int | None) -> None:
        """Begin an episode, and wait for it. Raises as `finish` does."""
        self.worker.tell("reset", self.place.key, row, seed)
        self.messages |= self.worker.finished(self.place.who)

    def check(self, generation: int) -> None:
        """Check that the environments are those that were made then. Raises EnvironmentFailure."""
        if self.worker.failure is not None:
            raise self.worker.failure
        if generation != self.generation:
            what = f"{self.place.who}: the state was lost when the worker process ended."
            raise EnvironmentFailure(what, "Look at why it ended.")

    def read(self, kind: str, row: int) -> Any:
        """What the environment returned. Raises RaisedElsewhere if it raised an exception."""
        found = self.answers[kind]
        if found.by_message[row]:
            result = self.messages.pop((kind, row))
            if isinstance(result, Raised):
                raise RaisedElsewhere(result)
            return result
        obs = nested(self.paths, [array[row] for array in found.obs])
        if kind == RESET:
            return obs, {}
        info = {}
        for name, number in zip(OUTCOMES, found.outcomes[row].tolist(), strict=True):
            if number == number:
                info[name] = number
        return obs, float(found.reward[row]), bool(found.terminated[row]), bool(found.truncated[row]), info


class RaisedElsewhere(Exception):
    """Stands for an exception of an environment in a worker."""

    def __init__(self, raised: Raised) -> None:
        self.described = raised.text
        """Type and text of the exception."""
        Exception.__init__(self, raised.trace)
