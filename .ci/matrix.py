"""Runs a short list of tests with each supported Python and with the oldest and the newest JAX: `make matrix`.

A Python that is not on PATH is reported and skipped. Each combination has a virtual environment in .matrix, about 1 GB,
which is made once; remove the folder to make them again. The exit code is 1 if a combination fails, and if none runs.

    python3 .ci/matrix.py                          # all of them
    python3 .ci/matrix.py --python 3.11 --jax oldest
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
FIRST_JAX = {"3.15": "0.12.0"}
"""The first release that a Python has, where it is newer than the first of the range."""
TESTS = (
    *("tests/core", "tests/settings/test_kinds.py", "tests/policy/test_policy.py", "tests/training/test_run.py"),
    *(
        "tests/training/test_resume.py",
        "tests/test_releases.py",
        "tests/test_tabular_em.py",
        "tests/cli/test_commands.py",
    ),
)
"""Training, resuming, old runs, the command line, and the mathematics against exact values: a few minutes."""


def jax_range() -> str:
    """The versions of JAX that pyproject.toml allows, such as ">=0.10,<0.13"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (found,) = (need for need in project["dependencies"] if re.match(r"jax\W", need))
    return found.removeprefix("jax")


def wanted_jax(which: str, python: str) -> list[str]:
    """What pip is asked for: the first or the newest release of the range that this Python can have."""
    allowed = jax_range()
    if which == "newest":
        return [f"jax{allowed}"]
    first = re.search(r">=\s*([0-9.]+)", allowed)
    assert first, f"pyproject.toml has no oldest JAX: {allowed}"
    version = FIRST_JAX.get(python, ".".join([*first[1].split("."), "0", "0"][:3]))
    return [f"jax=={version}", f"jaxlib=={version}"]


def runs(python: str) -> bool:
    """Whether there is such a Python. A shim of pyenv on PATH may have none behind it."""
    try:
        return subprocess.run([f"python{python}", "--version"], capture_output=True).returncode == 0
    except OSError:
        return False


def install(python: str, which: str) -> Path:
    """The Python of a combination's virtual environment, which is made if there is none. Raises CalledProcessError."""
    folder = ROOT / ".matrix" / f"{python}-{which}"
    inside = folder / "bin" / "python"
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([f"python{python}", "-m", "venv", str(folder)], check=True)
        pip = [str(inside), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--upgrade", "pip"], check=True)
        subprocess.run([*pip, "--editable", ".", "--group", "test", *wanted_jax(which, python)], cwd=ROOT, check=True)
        (folder / "installed").touch()  # last, so that an interrupted installation starts again
    return inside


def run(python: str, which: str) -> str:
    """Run the tests of a combination. Returns how it ended, in words."""
    if not runs(python):
        return f"skipped: there is no python{python} on PATH"
    try:
        inside = install(python, which)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"FAILED to install: {error}"
    asked = [str(inside), "-c", "import jax; print(jax.__version__)"]
    version = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    done = subprocess.run([str(inside), "-m", "pytest", "-q", "-n", "2", *TESTS], cwd=ROOT)
    return f"{'passed' if done.returncode == 0 else 'FAILED'} with JAX {version}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", choices=PYTHONS, default=list(PYTHONS))
    parser.add_argument("--jax", nargs="+", choices=("oldest", "newest"), default=["oldest", "newest"])
    args = parser.parse_args()
    ended = {f"Python {python}, {which} JAX": run(python, which) for python in args.python for which in args.jax}
    print("\n".join(f"{name}: {how}" for name, how in ended.items()))
    return int(
        any(how.startswith("FAILED") for how in ended.values()) or not any("passed" in h for h in ended.values())
    )


if __name__ == "__main__":
    raise SystemExit(main())
