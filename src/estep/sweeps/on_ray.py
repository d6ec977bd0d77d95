"""Runs as tasks of Ray, each with one core of whichever node has one. A task that was lost is tried on another node."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from estep.sweeps.cluster import connection
from estep.sweeps.engines import own_sigterm
from estep.sweeps.lines import Task
from estep.sweeps.process import execute

BETWEEN = 10.0
"""Seconds between two looks at the nodes."""
RETRIES = 20
"""How often Ray may begin a task again whose node or worker was lost."""


class Ray:
    """An engine of tasks of Ray."""

    keeps_running = False

    def __init__(self, sweep: Path, address: str, jobs: int | None, note: Callable[[str], None]) -> None:
        self._ray, self._jobs, self._active = connection.check(address), jobs, {}  # type: ignore[var-annotated]
        self._sweep, self._address, self._note = sweep, address, note
        self._connect()

    def _connect(self) -> None:
        """Connect to the cluster. Raises UsageError."""
        address = self._address
        quiet = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
        try:
            if address != connection.LOCAL:
                del quiet["include_dashboard"]
            self._ray.init(address=address, **quiet)
        except Exception as error:  # Ray raises Exception itself where its processes do not start in time
            raise connection.no_answer(address, error) from error
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        connection.check_folder(self._ray, self._sweep, nodes)
        self._node, self._looked = self._ray.get_runtime_context().get_node_id(), time.monotonic()
        options = {"num_cpus": 1, "max_retries": RETRIES, "retry_exceptions": False}
        self._execute = self._ray.remote(**options)(execute)
        self._note(f"ray      {len(nodes)} nodes at {address}{connection.warning()}")

    def submit(self, tasks: Sequence[Task]) -> Collection[str]:
        """Hand tasks to Ray: all of them, or as many as may run at once."""
        free = len(tasks) if self._jobs is None else self._jobs - len(self._active)
        taken = {task.run.id: self._execute.remote(task) for task in tasks[: max(free, 0)]}
        self._active |= taken
        return list(taken)

    def poll(self) -> Collection[str]:
        """The runs whose tasks have ended; all of them, if the cluster was lost and another one is there."""
        if self._is_lost():
            self._note("ray      the cluster was lost, and is connected to again")
            self._ray.shutdown()
            with own_sigterm():
                self._connect()
            lost, self._active = list(self._active), {}
            return lost
        refs = list(self._active.values())
        ready = set(self._ray.wait(refs, num_returns=len(refs), timeout=0)[0]) if refs else set()
        ended = [name for name, ref in self._active.items() if ref in ready]
        for name in ended:
            del self._active[name]
        return ended

    def _is_lost(self) -> bool:
        """Whether the cluster no longer has the node of this process. A cluster that was started again at the same
        address knows nothing of the tasks, and Ray would wait for them for ever."""
        if time.monotonic() < self._looked + BETWEEN:
            return False
        self._looked = time.monotonic()
        return not any(node["NodeID"] == self._node and node["Alive"] for node in self._ray.nodes())

    def cancel(self) -> None:
        """Interrupt all tasks, whose runs then save."""
        for ref in self._active.values():
            self._ray.cancel(ref)
