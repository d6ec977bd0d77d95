"""What run.json records about a run: versions, commit and hardware, but no environment variables or secrets."""

from __future__ import annotations

import functools as ft
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

SCHEMA = 1
PACKAGES = ("estep", "jax", "jaxlib", "numpy", "equinox", "optax", "gymnasium", "mujoco")
GIT_SECONDS = 2.0


def describe(command: Sequence[str], seeds: Mapping[str, int]) -> dict[str, Any]:
    """The record of a run that starts now, for RunFolder.write_run. Times are in UTC, memory is in bytes."""
    return {
        **{"schema": SCHEMA, "status": "running", "exit_code": None, "command": list(command), "seeds": dict(seeds)},
        **{"started": now(), "ended": None, "versions": versions(), "git": git(Path.cwd()), "hardware": hardware()},
    }


def now() -> str:
    """The time in UTC, for display. No decision depends on it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that influence results. The packages are not imported."""
    numbers: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            numbers[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            numbers[package] = None
    return numbers


@ft.cache
def machine() -> dict[str, Any]:
    """What must be the same for a run to go on to the same bits: versions, processor, threads, device and flags."""
    import jax

    device = jax.devices()[0]
    record = {"device": f"{device.device_kind} ({device.platform})", "cpu": _processor(), "threads": usable_cores()}
    return {"versions": versions(), **record, "flags": os.environ.get("XLA_FLAGS", "")}


def drift(saved: Any, now: Mapping[str, Any]) -> list[str]:
    """What differs between a checkpoint's record of its machine and this machine, in words.

    Args:
        saved: the record, or None of a checkpoint that has none, as those of 0.1.0; then nothing is known to differ.
        now: `machine()`.
    """
    if saved is None:
        return []
    flat = [{**one, **one["versions"]} for one in (saved, now)]
    names = [name for name in flat[1] if name != "versions"]
    return [
        f"{name} {flat[0].get(name)} then, {flat[1][name]} now" for name in names if flat[0].get(name) != flat[1][name]
    ]


def git(directory: Path) -> dict[str, Any] | None:
    """Commit of a git checkout, and whether it has changes. None if there is no checkout or git is slow or missing."""
    try:
        sha = _git(directory, "rev-parse", "HEAD")
        return {"sha": sha.strip(), "dirty": bool(_git(directory, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(directory: Path, *arguments: str) -> str:
    # fsmonitor is off, because the configuration of a checkout could name a program that it runs.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, errors="replace", timeout=GIT_SECONDS, check=True
    )
    return done.stdout


def hardware() -> dict[str, Any]:
    """Processor, number of cores that this process may use, and memory in bytes (None if it is not known)."""
    try:
        memory: int | None = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on every system
        memory = None
    return {"cpu": _processor(), "cores": usable_cores(), "memory": memory}


def usable_cores() -> int:
    """Number of cores that this process may use; on a system that does not tell, such as macOS, all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
