"""Runs as tasks of Ray, each with one core of whichever node has one. A task that was lost is tried on another node."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from estep.errors import UsageError
from estep.runs import storage
from estep.sweeps.lines import Task
from estep.sweeps.process import execute

ANSWER = 30.0
"""Seconds that a cluster has to answer."""
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
        quiet = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
        try:
            if address != LOCAL:
                del quiet["include_dashboard"]
            self._ray.init(address=address, **quiet)
        except Exception as error:  # Ray raises Exception itself where its processes do not start in time
            raise _no_answer(address, error) from error
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        self._check_folder(sweep, nodes)
        options = {"num_cpus": 1, "max_retries": RETRIES, "retry_exceptions": False}
        self._execute = self._ray.remote(**options)(execute)
        note(f"ray      {len(nodes)} nodes at {address}{warning()}")

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
        """The runs whose tasks have ended."""
        refs = list(self._active.values())
        ready = set(self._ray.wait(refs, num_returns=len(refs), timeout=0)[0]) if refs else set()
        ended = [name for name, ref in self._active.items() if ref in ready]
        for name in ended:
            del self._active[name]
        return ended

    def cancel(self) -> None:
        """Interrupt all tasks, whose runs then save."""
        for ref in self._active.values():
            self._ray.cancel(ref)
