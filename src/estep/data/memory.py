"""Checks before the first step that replay fits in memory. Otherwise a run would fail after hours."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

from estep.errors import UsageError

SHARE = 0.8
"""Fraction of the memory limit that replay may use; the rest is for the program, the networks and the simulator."""


def check_memory(need: int, capacity: int, per_row: float, limit: int | None = None) -> None:
    """Refuse a replay that needs more than 80 % of the memory limit.

    Args:
        need: bytes that replay needs.
        capacity: transitions that it stores.
        per_row: bytes per transition; the message computes from it the largest replay that fits.
        limit: memory limit in bytes; None reads it from the system. Without a limit nothing is refused.

    Raises:
        UsageError: the replay does not fit.
    """
    limit = memory_limit() if limit is None else limit
    if limit is None or need <= SHARE * limit:
        return
    fits = round_down(int(SHARE * limit / per_row))
    what = (
        f"Replay of {capacity:,} transitions needs {format_bytes(need)} of memory, "
        f"but it may use at most {format_bytes(SHARE * limit)}."
    )
    fix = "Close other programs to free memory, or use a larger machine."
    raise UsageError(what, f"Give --replay-size at most {fits}." if fits else fix)


def memory_limit(root: Path = Path("/")) -> int | None:
    """The smallest of the cgroup limits, MemAvailable and RLIMIT_DATA, in bytes; None if no limit can be read."""
    return min([*cgroup_limits(root), *available(root), *data_limit()], default=None)


def cgroup_limits(root: Path) -> Iterator[int]:
    """The limits of this process's memory cgroup and of its parents, in cgroup v2 and v1."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from limits_upwards(root / "sys/fs/cgroup", path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from limits_upwards(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes")


def limits_upwards(mount: Path, path: str, name: str) -> Iterator[int]:
    """The limits of a cgroup and of its parents. In a container the path may not exist.

    Args:
        mount: where the cgroup file system is mounted.
        path: the cgroup's path below the mount.
        name: the name of the file that has the limit.
    """
    folder = mount / path.strip("/")
    for place in [folder, *folder.parents]:
        if mount in (place, *place.parents):
            try:
                yield int((place / name).read_text())
            except (OSError, ValueError):  # absent, or "max"
                continue


def available(root: Path) -> Iterator[int]:
    """MemAvailable of /proc/meminfo, in bytes, if there is one."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return
    yield from (1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def data_limit() -> Iterator[int]:
    """RLIMIT_DATA in bytes, if there is one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY:
        yield soft


def round_down(n: int) -> int:
    """n rounded down to two significant digits, so that it is easy to type."""
    unit: int = 10 ** max(0, len(str(n)) - 2)
    return n // unit * unit


def format_bytes(n: float) -> str:
    """Bytes in decimal units, as in "2.7 MB"."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while n >= 999.95 and len(units) > 1:
        n, units = n / 1000, units[1:]
    return f"{n:.0f} bytes" if units[0] == "bytes" else f"{n:.1f} {units[0]}"
