"""Refusing a replay that does not fit in memory before the first step, rather than hours later."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

from estep.errors import UsageError

SHARE = 0.8
"""Part of the limit that replay may take; the rest is for the program, the networks and the simulator."""


def check_memory(need: int, capacity: int, per_row: float, limit: int | None = None) -> None:
    """Raise UsageError unless `need` bytes, for `capacity` transitions, fit in 80 % of the memory limit.

    per_row is bytes per transition, from which the largest capacity that fits is named. limit is in bytes; None
    reads it from the system, and no limit passes.
    """
    limit = memory_limit() if limit is None else limit
    if limit is None or need <= SHARE * limit:
        return
    fits = round_down(int(SHARE * limit / per_row))
    what = (
        f"Replay of {capacity:,} transitions needs {format_bytes(need)}, and {format_bytes(SHARE * limit)} may be used."
    )
    raise UsageError(
        what, f"Give --replay-size at most {fits}." if fits else "Free some memory, or use a larger machine."
    )


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes: the least of the cgroup limits, MemAvailable and RLIMIT_DATA, or None where no limit can be read."""
    return min([*cgroup_limits(root), *available(root), *data_limit()], default=None)


def cgroup_limits(root: Path) -> Iterator[int]:
    """The limits of this process's memory cgroup and of those above it, in cgroup v2 and v1."""
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
    """The limits in the files `name` from a cgroup up to its mount. In a container the path may not exist there."""
    folder = mount / path.strip("/")
    for place in [folder, *folder.parents]:
        if mount in (place, *place.parents):
            try:
                yield int((place / name).read_text())
            except (OSError, ValueError):  # absent, or "max"
                continue


def available(root: Path) -> Iterator[int]:
    """MemAvailable of /proc/meminfo."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return
    yield from (1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def data_limit() -> Iterator[int]:
    """RLIMIT_DATA, where there is one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY:
        yield soft


def round_down(n: int) -> int:
    """n to two significant digits, never above it: a number that is easy to type and leaves a margin."""
    unit: int = 10 ** max(0, len(str(n)) - 2)
    return n // unit * unit


def format_bytes(n: float) -> str:
    """Bytes in decimal units, as in "2.7 MB"."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while n >= 999.95 and len(units) > 1:
        n, units = n / 1000, units[1:]
    return f"{n:.0f} bytes" if units[0] == "bytes" else f"{n:.1f} {units[0]}"
