"""The engines by name. One that is not of this machine is imported only when it is asked for."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from estep.sweeps.engine import Engine
from estep.sweeps.lines import Task


class Where(NamedTuple):
    """Where the processes of a sweep run."""

    on: str = "local"
    """local, slurm or ray."""
    jobs: int | None = None
    slurm: Mapping[str, str] = {}
    """Options of sbatch."""
    address: str = "auto"
    """Of a Ray cluster."""


def check(where: Where, sweep: Path) -> None:
    """Refuse an engine that is not there, before anything is written. Raises UsageError."""
    if where.on == "slurm":
        from estep.sweeps import slurm

        slurm.check(where.slurm)
    elif where.on == "ray":
        from estep.sweeps.cluster import connection

        connection.check(where.address)


def make(where: Where, sweep: Path, note: Callable[[str], None]) -> Engine:
    """The engine. Raises UsageError if it cannot be reached or does not see the folder."""
    if where.on == "slurm":
        from estep.sweeps.slurm import Slurm

        return Slurm(sweep, where.slurm, where.jobs, note)
    if where.on == "ray":
        from estep.sweeps.on_ray import Ray

        with own_sigterm():
            return Ray(sweep, where.address, where.jobs, note)
    from estep.sweeps.local import Local

    return Local(where.jobs)


@contextlib.contextmanager
def own_sigterm() -> Iterator[None]:
    """Keep the handler of SIGTERM, by which a command stops. Ray puts one there that ends the process at once."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # outside the main thread nobody could have replaced it
            signal.signal(signal.SIGTERM, handler)


def script(sweep: Path, tasks: Sequence[Task], where: Where) -> str:
    """The script for SLURM."""
    from estep.sweeps import slurm

    return slurm.script(sweep, tasks, where.slurm, where.jobs)
