"""What `make test` installs has a known hash: every version of constraints.txt, and nothing else."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKED = ROOT / "requirements.txt"


def pinned(text):
    """The version and the number of hashes of each distribution."""
    found = {}
    for entry in re.sub(r"\\\n", " ", text).splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[\w,]+\])?==([^\s;]+)", entry)
        if match:
            found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2], entry.count("--hash=sha256:")
    return found


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-tools.txt"])
def test_every_version_has_hashes(name):
    text = (ROOT / name).read_text("utf-8")
    found = pinned(text)
    assert len(found) > 30
    assert [one for one, (_, hashes) in found.items() if not hashes] == []
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(lines) == len(found), "a line without a pinned version"


def test_versions_are_the_tested_ones():
    locked = {name: version for name, (version, _) in pinned(LOCKED.read_text("utf-8")).items()}
    tested = {name: version for name, (version, _) in pinned((ROOT / "constraints.txt").read_text("utf-8")).items()}
    assert {name: locked.get(name) for name in tested} == tested


def test_the_build_backend_is_the_locked_one():
    (needed,) = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    assert needed == f"hatchling=={pinned(LOCKED.read_text('utf-8'))['hatchling'][0]}"


def test_installation_needs_the_hashes():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    installs = [line for line in makefile.splitlines() if "pip install" in line]
    installs = [line for line in installs if "--group browser" not in line]  # `make test` needs no browser
    assert len(installs) == 3
    for line in installs:
        assert "--require-hashes" in line or "--no-deps --no-build-isolation --editable ." in line


def test_a_version_without_a_hash_is_found():
    assert pinned("a==1 \\\n    --hash=sha256:00\nb_c[x]==2\n") == {"a": ("1", 1), "b-c": ("2", 0)}
