"""Environments in worker processes: they are stepped at the same time, with the results of one process."""

from __future__ import annotations

from typing import Any

import gymnasium

from estep.envs.elsewhere.part import Part, Place
from estep.envs.elsewhere.worker import Worker
from estep.envs.elsewhere.worker_env import WorkerEnv
from estep.envs.pure.ids import BY_JAX
from estep.errors import UsageError
from estep.settings.references import ENVPOOL, env_text, has_home, reference_of

WITHOUT = "leave --env-workers out"


class Pool:
    """Worker processes. They start with the first environments."""

    def __init__(self, count: int, timeout: float) -> None:
        """At most `count` processes, which may take `timeout` seconds for a call of an environment (0: no limit)."""
        self._count, self._timeout = count, timeout
        self.workers: list[Worker] = []
        self._parts: list[Part] = []
        self._kinds = 0

    def place(self, source: Any, count: int, name: str) -> list[gymnasium.Env[Any, Any]]:
        """Make environments, which the workers share in equal parts.

        Args:
            source: an id, or a function of a module.
            count: how many.
            name: their name, for messages.

        Raises:
            UsageError: a worker cannot make them, because it does not find the source or would need JAX.
            EnvironmentFailure: making them failed.
        """
        found, key, used = findable(source, name), self._kinds, min(self._count, count)
        self._kinds += 1
        while len(self.workers) < used:
            self.workers.append(Worker(len(self.workers), self._timeout))
        bounds = [count * i // used for i in range(used + 1)]
        parts = [
            Part(worker, Place(key, found, range(first, last), name))
            for worker, first, last in zip(self.workers, bounds, bounds[1:], strict=False)
        ]
        for part in parts:
            part.begin()
        for part in parts:
            part.attach()
        self._parts += parts
        return [WorkerEnv(self, part, row) for part in parts for row in range(len(part.place.rows))]

    def revive(self, worker: Worker) -> None:
        """Start a worker again that has failed, with all of its environments. Raises EnvironmentFailure."""
        worker.restart()
        for part in self._parts:
            if part.worker is worker:
                part.begin()
                part.attach()

    def close(self) -> None:
        """Close all environments and end all processes. A second call does nothing."""
        for worker in self.workers:
            worker.ask_to_close()
        while self.workers:
            self.workers.pop().end()


def findable(source: Any, name: str) -> tuple[str, bool]:
    """What makes an environment in another process: an id and True, or the name of a function and False.

    Raises:
        UsageError: another process cannot find it, or would need JAX for it.
    """
    if isinstance(source, str):
        text = env_text(source)
        if text.id.startswith(ENVPOOL):
            what = f"{name} is stepped in threads of EnvPool, not in worker processes."
            raise UsageError(what, "Leave --env-workers out.")
        if text.id.startswith(BY_JAX):
            what = f"{name} is computed by JAX, which worker processes do not have."
            raise UsageError(what, f"For environments of JAX {WITHOUT}; --population steps many at once.")
        return text.text, True
    if isinstance(source, gymnasium.Env):
        what = f"--env-workers makes environments in other processes, and {name} is one instance."
        raise UsageError(what, f"Pass the environment's id, or a function of a module that makes it; or {WITHOUT}.")
    if not has_home(source) or source.__module__ == "__main__":
        what = f"Worker processes cannot find {name}: it is not a function or a class of a module."
        raise UsageError(what, f"Write it into a module, outside the script that runs; or {WITHOUT}.")
    return reference_of(source), False
