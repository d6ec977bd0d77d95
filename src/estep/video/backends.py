"""How MuJoCo draws without a display. A context that fails can end the process, so a child process tries each way."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from estep.errors import EstepError
from estep.policy.cache import cache_folder
from estep.runs import reading, storage, strict

VARIABLE = "MUJOCO_GL"
LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
"""The shared library of each way that needs no display, in the order in which they are tried."""
INSTALL = "Install a library that draws without a display: apt-get install libegl1 libosmesa6 (Debian, Ubuntu)."
PATIENCE = 60.0
"""Seconds that a way may take to draw one small picture."""
SMALL = 1_000
"""Bytes of the file of the answer."""
DRAW = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light/><geom size='1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 16, 16)
renderer.update_scene(data)
assert renderer.render().max() > 0
renderer.close()
"""


class Backend(NamedTuple):
    """A way to draw."""

    name: str | None
    """What MUJOCO_GL is to be; None where nothing works."""
    why: str
    """How it was found, for people."""


def choose() -> Backend:
    """The way to draw on this machine: what the user's MUJOCO_GL says, else the first one that works, which is
    remembered in the cache folder."""
    given = os.environ.get(VARIABLE)
    if given:
        return Backend(given, f"{VARIABLE} says so")
    key = _machine()
    known = _remembered(key)
    if known is not None:
        return known
    names = [*(("glfw",) if _has_display() else ()), *LIBRARIES]
    name = next((name for name in names if works(name)), None)
    found = Backend(name, "tried in a child process" if name else "none of " + ", ".join(names) + " works")
    _remember(key, found)
    return found


def use() -> Backend:
    """Choose the way, and set MUJOCO_GL for this process. Call it before anything is drawn."""
    found = choose()
    if found.name is not None:
        os.environ[VARIABLE] = found.name
    return found


def works(name: str) -> bool:
    """Whether MuJoCo draws in this way, in a process of its own."""
    if name in LIBRARIES and ctypes.util.find_library(LIBRARIES[name]) is None:
        return False
    try:
        ended = subprocess.run(
            [sys.executable, "-P", "-c", DRAW],
            env={**os.environ, VARIABLE: name},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return ended.returncode == 0


def _has_display() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _machine() -> list[str]:
    """What the answer depends on: it is asked again when a library or another MuJoCo is installed."""
    libraries = [str(ctypes.util.find_library(library)) for library in LIBRARIES.values()]
    return [metadata.version("mujoco"), sys.executable, str(_has_display()), *libraries]


def _file() -> Path:
    return cache_folder().absolute() / "rendering.json"


def _remembered(key: list[str]) -> Backend | None:
    try:
        found = strict.parse(reading.read_path(_file(), SMALL))
    except (OSError, ValueError, EstepError):
        return None
    if (
        not isinstance(found, dict)
        or found.get("machine") != key
        or found.get("name") not in (None, "glfw", *LIBRARIES)
    ):
        return None
    return Backend(found["name"], str(found.get("why")))


def _remember(key: list[str], found: Backend) -> None:
    """Write the answer where that is possible; else it is asked again."""
    try:
        storage.make_dir(_file().parent)
        storage.write_atomic(_file(), strict.dump({"machine": key, **found._asdict()}))
    except EstepError:
        return
