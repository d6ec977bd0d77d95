"""One environment in a worker process, with the interface of Gymnasium."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from gymnasium.envs.registration import EnvSpec

from estep.envs.elsewhere.layout import RESET, RESETTING, STEP
from estep.envs.elsewhere.part import Part
from estep.envs.elsewhere.slot import Elsewhere
from estep.envs.elsewhere.worker import Worker


class Reviver(Protocol):
    """What starts a worker again."""

    def revive(self, worker: Worker) -> None:
        """Start it again, with all of its environments. Raises EnvironmentFailure."""


class WorkerEnv(Elsewhere):
    """One environment in a worker."""

    def __init__(self, pool: Reviver, part: Part, row: int) -> None:
        self._pool, self._part, self._row = pool, part, row
        self.observation_space, self.action_space, self.limit, env_id = part.facts
        self.spec = EnvSpec(env_id)
        self._generation, self._kind = part.generation, RESET
        self._prepared = False
        self._ahead: int | None = None
        """The seed with which the worker has begun the next episode."""

    @property
    def pid(self) -> int:
        """The number of the process that computes it."""
        return self._part.worker.pid

    @property
    def data(self) -> Any:
        """Time and warnings of MuJoCo's simulation, as its own data has them; None for other environments."""
        return Data(self) if self.now("simulated") else None

    def now(self, name: str) -> Any:
        """A number of the last answer."""
        return getattr(self._part.answers[self._kind], name)[self._row]

    def batch(self) -> Part:
        return self._part

    def prepare(self, action: Any, seed: int) -> Part:
        part, row = self._part, self._row
        part.actions[row], part.seeds[row], part.wanted[row] = action, seed, True
        self._prepared, self._ahead = True, seed
        return self._part

    def step(self, action: Any) -> Any:
        if not self._prepared:
            self.prepare(action, -1).start()
        ahead = self._finish()
        self._part.check(self._generation)
        self._kind = STEP
        result = self._part.read(STEP, self._row)
        ended = self.now("terminated") or self.now("truncated")
        self._ahead = ahead if ended and not self.now("by_message") else None
        return result

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if self._prepared:  # a step that nobody waited for, because another environment failed
            self._finish()
        ahead, self._ahead, self._kind = self._ahead, None, RESET
        if ahead is None or ahead != seed or self._generation != self._part.generation:
            self._part.reset(self._row, seed)
            self._generation = self._part.generation
        return self._part.read(RESET, self._row)

    def _finish(self) -> int | None:
        """Wait for the step. Returns the seed that it was given."""
        ahead, self._prepared, self._ahead = self._ahead, False, None
        self._part.finish()
        return ahead

    def again(self) -> WorkerEnv:
        if self._part.worker.failure is not None:
            self._pool.revive(self._part.worker)
        elif self._generation == self._part.generation:
            self._part.remake(self._row)
        self._generation, self._prepared, self._ahead = self._part.generation, False, None
        return self


class Data:
    """What `SimulationClock` reads of the data of a simulation in a worker."""

    def __init__(self, env: WorkerEnv) -> None:
        self._env = env
        self.warning = {kind: Count(env, i) for i, kind in enumerate(RESETTING)}

    @property
    def time(self) -> float:
        """Time of the simulation."""
        return float(self._env.now("time"))


class Count(NamedTuple):
    """How often MuJoCo gave one of its warnings."""

    env: WorkerEnv
    place: int
    """Its place among those that are counted."""

    @property
    def number(self) -> int:
        """The count."""
        return int(self.env.now("warnings")[self.place])
