"""Pages lead where they say, each result has its page and its commands, and these commands are of this version."""

import os
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from commandline import command

from estep.algorithms import ALGORITHMS

ROOT = Path(__file__).parents[1]
FOLDERS = "docs", "benchmarks", "experiments", "results", "examples", "src", "tests"
PAGES = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
SCRIPTS = sorted((ROOT / "experiments").glob("*/run.sh"))
RESULTS = sorted(path for path in (ROOT / "results").iterdir() if path.is_dir())
LINES, WIDTH = 60, 160
"""The most lines of a page of results, and the most characters of a line outside tables."""
STUB = """#!/bin/sh
echo "$(basename "$0")" "$@" >> "$LOG"
"""


def name(path):
    return str(path.relative_to(ROOT))


def dead_links(text, folder):
    """The relative links of a page that lead to no file."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", prose)
    files = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:", link)]
    return [file for file in files if not (folder / file).exists()]


def faults(text):
    """What makes a page of results longer or wider than a screen."""
    lines = text.splitlines()
    long = [f"{len(lines)} lines"] if len(lines) > LINES else []
    return long + [line for line in lines if len(line) > WIDTH and not line.startswith("|")]


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_relative_link_leads_to_a_file(path):
    assert dead_links(path.read_text("utf-8"), path.parent) == []


def test_a_link_to_nothing_is_found():
    text = "[a](README.md#results) [b](https://c.d) ![e](gone.png) [f](#g) `[h](i)`\n```\n[j](k)\n```\n[l](gone/)"
    assert dead_links(text, ROOT) == ["gone.png", "gone/"]


@pytest.mark.parametrize("folder", RESULTS, ids=name)
def test_every_result_has_a_page_of_one_screen_and_commands(folder):
    text = (folder / "README.md").read_text("utf-8")
    assert faults(text) == []
    script = f"experiments/{folder.name}/run.sh"
    assert ROOT / script in SCRIPTS
    assert f"(../../{script})" in text
    assert f"({folder.name}/README.md)" in (ROOT / "results" / "README.md").read_text("utf-8")


def test_the_page_that_leads_to_results_is_of_one_screen():
    assert faults((ROOT / "results" / "README.md").read_text("utf-8")) == []


def test_a_long_page_and_a_wide_line_are_found():
    wide = "x" * (WIDTH + 1)
    assert faults("x\n" * LINES + wide) == [f"{LINES + 1} lines", wide]
    assert faults(f"| {wide} |") == []


def test_every_experiment_makes_a_result():
    assert [path.parent.name for path in SCRIPTS] == [folder.name for folder in RESULTS]


def commands_of(script, tmp_path):
    """What a run.sh would run, as lists of words: every program it calls only writes down that it was called."""
    log, programs = tmp_path / "log", tmp_path / "bin"
    programs.mkdir()
    for program in ("estep", "python", "cp"):
        (programs / program).write_text(STUB)
        (programs / program).chmod(0o755)
    own = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "LOG": str(log)}
    folders = {"RUNS": str(tmp_path / "runs"), "OUT": str(tmp_path / "out")}
    subprocess.run(["bash", str(script)], env=os.environ | own | folders, check=True, timeout=60)
    return [line.split() for line in log.read_text("utf-8").splitlines()]


@cache
def help_of(*words):
    """The help of a command of estep, or of one of our scripts its source."""
    if words[0] == "estep":
        return command(*words[1:], "--help").out
    return (ROOT / words[1]).read_text("utf-8")


def options_unknown(words):
    """The options of a command that its program does not have."""
    if words[0] == "python" and "from estep.cli.main import main" in help_of(*words[:2]):
        words = ["estep", *words[2:]]  # a script that changes something and goes on as estep
    told = help_of(*words[: 3 if words[:2] == ["estep", "train"] else 2])
    if words[:2] in (["estep", "sweep"], ["estep", "tune"]) and words[2] in ALGORITHMS:
        told += help_of("estep", "train", words[2])  # they take the settings of their runs
    return [word for word in words if word.startswith("--") and not re.search(rf'(^|[\s"|]){word}[\s",]', told)]


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_the_commands_behind_a_result_are_bash_and_have_options_of_this_version(script, tmp_path):
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=60)
    commands = commands_of(script, tmp_path)
    assert commands
    for words in commands:
        assert words[0] == "cp" or options_unknown(words) == [], " ".join(words)


def test_an_option_of_another_version_is_found():
    assert options_unknown(["estep", "train", "sac", "--env", "CartPole-v1", "--gone"]) == ["--gone"]
    script = "experiments/bandit_table/bandit_table.py"
    assert options_unknown(["python", script, "--seeds", "0", "--seed", "0"]) == ["--seed"]
