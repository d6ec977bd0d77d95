"""`estep doctor`, `estep check-env` and `estep verify`: whether machine, environment and recorded runs are sound."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from estep.cli.main import Context
from estep.cli.parse import parse
from estep.cli.resolve import each_run, finish_several, run_folder, runs_of
from estep.cli.results import aligned
from estep.errors import EnvironmentFailure, RejectedInput, describe
from estep.settings import schema

MEMORY_GB, DISK_GB = 1.0, 1.0
"""What a small run needs. Compilation uses about half of the memory; checkpoints and curves use less than the disk."""


class Check(NamedTuple):
    """The result of a check, and how to fix a failure."""

    name: str
    ok: bool
    found: str
    """The result, as text."""
    fix: str = ""


@dataclass(frozen=True)
class Doctor:
    """Check this machine and this installation. If training would fail, the exit code is 1 and each fix is printed."""


@dataclass(frozen=True)
class CheckEnv:
    """Check that estep can train in an environment. If a check fails, the exit code is 5."""

    env: str
    """Gymnasium id, module:Id, or module:Class. estep imports the module that you name."""
    env_timeout: float = 60.0
    """Seconds that one call of the environment may take before the check ends (0: no limit)."""


@dataclass(frozen=True)
class Verify:
    """Check every checkpoint of one run or of several with its checksums. If one is bad, the exit code is 3."""

    runs: tuple[str, ...]
    """Folders of runs, folders in which there are runs, or files named latest."""
    trust_dir: bool = False
    """Read a run folder that other users may write to, whom you trust."""


def doctor(arguments: list[str], context: Context) -> int:
    """Check this machine and this installation."""
    parse("estep doctor", str(Doctor.__doc__), schema.of(Doctor), (), arguments)
    checks = [_run(name, function) for name, function in CHECKS.items()]
    lines = aligned([("ok" if check.ok else "FAIL", check.name, check.found) for check in checks], indent="")
    context.results.say("\n".join(lines))
    context.results.known["checks"] = [check._asdict() for check in checks]
    failed = [check for check in checks if not check.ok]
    if failed:
        what = "; ".join(f"{check.name}: {check.found}" for check in failed)
        return context.results.fail(1, what, _fixes(failed))
    return context.results.finish(0, {})


def _fixes(failed: list[Check]) -> str:
    return " ".join(check.fix for check in failed)


def _run(name: str, function: Callable[[], tuple[bool, str, str]]) -> Check:
    try:
        return Check(name, *function())
    except Exception as error:
        return Check(name, False, describe(error), "Install estep again with its dependencies.")


def _python() -> tuple[bool, str, str]:
    return sys.version_info >= (3, 11), platform.python_version(), "Use Python 3.11 or newer."


def _jax() -> tuple[bool, str, str]:
    import jax

    devices = jax.devices()
    return True, f"{jax.__version__} on {len(devices)} {devices[0].device_kind} ({devices[0].platform})", ""


def _cores() -> tuple[bool, str, str]:
    from estep.runs.provenance import usable_cores

    return True, f"{usable_cores()} usable", ""


def _mujoco() -> tuple[bool, str, str]:
    import mujoco

    data = mujoco.MjData(mujoco.MjModel.from_xml_string("<mujoco><worldbody/></mujoco>"))
    return data.time == 0, mujoco.__version__, "Install mujoco>=3.3,<4."


def _render() -> tuple[bool, str, str]:
    """This check never fails, because training needs no rendering."""
    from estep.video.backends import INSTALL, choose

    found = choose()
    return True, f"{found.name} ({found.why})" if found.name else f"none, which only videos need. {INSTALL}", ""


def _cache() -> tuple[bool, str, str]:
    from estep.policy.cache import cache_folder

    folder = cache_folder()
    if not folder.exists():
        usable = _can_write(_existing(folder))
        return (
            usable,
            f"{folder}, does not exist yet",
            f"{folder} cannot be made: set ESTEP_CACHE_DIR to a folder that you can write to.",
        )
    status = folder.stat()
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o022:
        return False, f"other users may write to {folder}", f"Run chmod 700 {folder}, or set ESTEP_CACHE_DIR."
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return _can_write(folder), f"{folder}, {size / 1e6:,.0f} MB", f"Make {folder} writable, or set ESTEP_CACHE_DIR."


def _disk() -> tuple[bool, str, str]:
    folder = _existing(Path(os.environ.get("ESTEP_RUNS_DIR") or "runs").absolute())
    free = shutil.disk_usage(folder).free / 1e9
    fix = f"Free some space at {folder}, make it writable, or set ESTEP_RUNS_DIR to another folder."
    return free >= DISK_GB and _can_write(folder), f"{free:,.1f} GB free at {folder}", fix


def _memory() -> tuple[bool, str, str]:
    from estep.data.memory import available

    free = next(available(Path("/")), None)
    if free is None:
        return True, "not known on this system", ""
    fix = f"Close other programs until {MEMORY_GB:g} GB are free."
    return free / 1e9 >= MEMORY_GB, f"{free / 1e9:,.1f} GB available", fix


def _existing(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _can_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


CHECKS: dict[str, Callable[[], tuple[bool, str, str]]] = {
    **{"python": _python, "jax": _jax, "cores": _cores, "mujoco": _mujoco, "render": _render},
    **{"cache": _cache, "disk": _disk, "memory": _memory},
}


def check_env(arguments: list[str], context: Context) -> int:
    """Check that estep can train in an environment."""
    values, _ = parse("estep check-env", str(CheckEnv.__doc__), schema.of(CheckEnv), ("env",), arguments)

    from estep.envs.checking.checker import check_env as check
    from estep.envs.guard.watch import Watch

    watch = Watch(values["env_timeout"], values["env"], context.results.hang)
    findings = check(values["env"], watch)
    watch.close()
    rows = [("ok" if finding.ok else "FAIL", finding.name, finding.detail) for finding in findings]
    context.results.say("\n".join(aligned(rows, indent="")))
    context.results.known["findings"] = [finding._asdict() for finding in findings]
    failed = [f"{finding.name}: {finding.detail}" for finding in findings if not finding.ok]
    if failed:
        what = f"{values['env']} failed the check: {'; '.join(failed).rstrip('.')}."
        raise EnvironmentFailure(what, "Fix the failed checks and run check-env again.")
    return context.results.finish(0, {})


def verify(arguments: list[str], context: Context) -> int:
    """Check every checkpoint of one run or of several."""
    values, _ = parse("estep verify", str(Verify.__doc__), schema.of(Verify), ("runs",), arguments)
    runs = runs_of(values["runs"], values["trust_dir"])
    if len(runs) == 1:
        _verify(runs[0], values, context)
        return context.results.finish(0, {})
    several = each_run(runs, context.results, lambda run: _verify(run, values, context))
    del context.results.known["checkpoints"]
    return finish_several(several, (), context.results)


def _verify(run: Path, values: dict[str, Any], context: Context) -> list[dict[str, Any]]:
    """Say which checkpoints of a run are sound, and return it as values of JSON. Raises RejectedInput if one is bad."""
    folder = run_folder(run, context.results, values["trust_dir"])

    from estep.runs import checkpoint

    verified = checkpoint.verify(folder)
    lines = [f"{'bad' if why else 'ok':4s} {path.name}  {why or ''}".rstrip() for path, why in verified]
    context.results.say("\n".join(lines))
    found = [{"name": path.name, "ok": not why, "reason": why} for path, why in verified]
    context.results.known["checkpoints"] = found
    bad = [f"{path.name}: {why}" for path, why in verified if why is not None]
    if bad:
        what = f"{len(bad)} of {len(verified)} checkpoints cannot be used: {'; '.join(bad)}."
        raise RejectedInput(what, "estep resume uses the newest good checkpoint; train again if none is good.")
    return found
