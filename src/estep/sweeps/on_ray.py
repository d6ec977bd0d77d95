"""Runs as tasks of Ray, each with one core of whichever node has one. A task that was lost is tried on another node."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from estep.errors import UsageError
from estep.runs import storage
from estep.sweeps.engines import own_sigterm
from estep.sweeps.lines import Task
from estep.sweeps.process import execute

ANSWER = 30.0
"""Seconds that a cluster has to answer."""
BETWEEN = 10.0
"""Seconds between two looks at the nodes."""
LOCAL = "local"
"""The address for which a cluster is started on this machine."""
TOKEN = "token"
"""The value of RAY_AUTH_MODE with which Ray asks for a token."""
RETRIES = 20
"""How often Ray may begin a task again whose node or worker was lost."""


def check(address: str) -> Any:
    """The library, if it is installed and something answers at the address. Raises UsageError."""
    if address == LOCAL:
        require_token()
    try:
        import ray
    except ImportError as error:
        raise UsageError("Ray is not installed.", "Install it: pip install 'estep[ray]'.") from error
    host, colon, port = address.rpartition(":")
    if colon and "://" not in address:
        try:
            socket.create_connection((host, int(port)), ANSWER).close()
        except (OSError, ValueError) as error:
            raise _no_answer(address, error) from error
    return ray


def require_token() -> None:
    """Let the cluster that is started here refuse whoever does not know a random token: Ray listens on all networks of
    the machine, and runs the code of whoever reaches it."""
    os.environ.setdefault("RAY_AUTH_MODE", TOKEN)
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def warning() -> str:
    """What is said of a cluster that asks for no token, or an empty text."""
    asks = os.environ.get("RAY_AUTH_MODE") == TOKEN
    return "" if asks else "; RAY_AUTH_MODE is not token: who reaches its ports can run code on its nodes"


def _no_answer(address: str, error: object) -> UsageError:
    what = f"No Ray cluster answers at {address}: {' '.join(str(error).split())[:200]}."
    return UsageError(what, "Start one with `ray start --head`, or give --address local.")


def sees(path: Path) -> bool:
    """Whether this node sees a file."""
    return path.is_file()


class Ray:
    """An engine of tasks of Ray."""

    keeps_running = False

    def __init__(self, sweep: Path, address: str, jobs: int | None, note: Callable[[str], None]) -> None:
        self._ray, self._jobs, self._active = check(address), jobs, {}  # type: ignore[var-annotated]
        self._sweep, self._address, self._note = sweep, address, note
        self._connect()

    def _connect(self) -> None:
        """Connect to the cluster. Raises UsageError."""
        address = self._address
        quiet = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
        try:
            if address != LOCAL:
                del quiet["include_dashboard"]
            self._ray.init(address=address, **quiet)
        except Exception as error:  # Ray raises Exception itself where its processes do not start in time
            raise _no_answer(address, error) from error
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        self._check_folder(self._sweep, nodes)
        self._node, self._looked = self._ray.get_runtime_context().get_node_id(), time.monotonic()
        options = {"num_cpus": 1, "max_retries": RETRIES, "retry_exceptions": False}
        self._execute = self._ray.remote(**options)(execute)
        self._note(f"ray      {len(nodes)} nodes at {address}{warning()}")

    def _check_folder(self, sweep: Path, nodes: Sequence[Any]) -> None:
        """Refuse a folder that not every node sees. Raises UsageError."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        with storage.temporary_dir(sweep) as place:
            storage.write_new(place / "seen", b"")
            there = self._ray.remote(num_cpus=0)(sees)
            asked = {
                node["NodeManagerHostname"]: there.options(
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ).remote(place / "seen")
                for node in nodes
            }
            blind = []
            for name, one in asked.items():
                try:
                    blind += [] if self._ray.get(one, timeout=2 * ANSWER) else [name]
                except self._ray.exceptions.RayError as error:
                    what = f"The node {name} cannot run estep: {' '.join(str(error).split())[-200:]}."
                    raise UsageError(what, "Install the same version of estep on all nodes.") from error
            storage.discard(place)
        if blind:
            fix = "Give --out a folder of a disk that all nodes share."
            raise UsageError(f"The node {blind[0]} does not see the folder {sweep}.", fix)

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
