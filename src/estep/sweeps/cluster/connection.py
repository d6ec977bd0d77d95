"""What is checked of a Ray cluster before runs are handed to it."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from estep.errors import UsageError
from estep.runs import storage

ANSWER = 30.0
"""Seconds that a cluster has to answer."""
LOCAL = "local"
"""The address for which a cluster is started on this machine."""
TOKEN = "token"
"""The value of RAY_AUTH_MODE with which Ray asks for a token."""


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
            raise no_answer(address, error) from error
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


def no_answer(address: str, error: object) -> UsageError:
    """The error for a cluster that cannot be connected to."""
    what = f"No Ray cluster answers at {address}: {' '.join(str(error).split())[:200]}."
    return UsageError(what, "Start one with `ray start --head`, or give --address local.")


def sees(path: Path) -> bool:
    """Whether this node sees a file."""
    return path.is_file()


def check_folder(ray: Any, sweep: Path, nodes: Sequence[Any]) -> None:
    """Refuse a folder that not every node sees. Raises UsageError."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    with storage.temporary_dir(sweep) as place:
        storage.write_new(place / "seen", b"")
        there = ray.remote(num_cpus=0)(sees)
        asked = {
            node["NodeManagerHostname"]: there.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(place / "seen")
            for node in nodes
        }
        blind = []
        for name, one in asked.items():
            try:
                blind += [] if ray.get(one, timeout=2 * ANSWER) else [name]
            except ray.exceptions.RayError as error:
                what = f"The node {name} cannot run estep: {' '.join(str(error).split())[-200:]}."
                raise UsageError(what, "Install the same version of estep on all nodes.") from error
        storage.discard(place)
    if blind:
        fix = "Give --out a folder of a disk that all nodes share."
        raise UsageError(f"The node {blind[0]} does not see the folder {sweep}.", fix)
