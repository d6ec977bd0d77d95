"""The docs: pages that scripts write are up to date, files and names are the code's, and lines fit a terminal."""

import importlib
import re
from pathlib import Path

import combinations
import glossary
import pytest
import table

import estep

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
PLACES = ROOT, ROOT / "src" / "estep", ROOT / "src" / "estep" / "algorithms" / "compose", ROOT / "benchmarks", DOCS
FOLDERS = {path.name for path in (ROOT / "src" / "estep").iterdir() if path.is_dir()}
OF_A_RUN = {"dump/", "plots/", "replay/", "policy.py", "inference.py", "drawing.py"}
"""Of a run, or of an export."""
FILES = (".npz", ".onnx", ".jaxexport", ".html", ".py")
NEW_ITEM = re.compile(r"\s+([-+*]|1[.)])\s")
"""A line that continues an item and that Markdown would take for a new one."""


def quoted(text):
    """What stands in backticks, outside of blocks of code."""
    return re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def files_unknown(text):
    """Files and folders of the code that a page names and that are not there."""
    named = [word for word in quoted(text) if re.fullmatch(r"[a-z_/]+(\.py|/)", word)]
    return [name for name in named if name not in OF_A_RUN and not any((place / name).exists() for place in PLACES)]


def names_unknown(text):
    """Names such as `m_steps.temperature.least_entropy` that the package does not have; arrays of an agent are none."""
    heads = [word.partition("(")[0].removeprefix("estep.") for word in quoted(text)]
    dotted = [name for name in heads if re.fullmatch(r"\w+(\.\w+)+", name) and ".model." not in name]
    dotted = [name for name in dotted if not name.endswith(FILES)]
    return [name for name in dotted if name.partition(".")[0] in FOLDERS and not resolves(name)]


def resolves(name):
    home, _, last = name.rpartition(".")
    if home == "policy" and hasattr(estep.Policy, last):  # a policy of the page's program
        return True
    try:
        return hasattr(importlib.import_module(f"estep.{home}"), last)
    except ImportError:
        return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_and_names_are_those_of_the_code(page):
    text = page.read_text("utf-8")
    assert files_unknown(text) == []
    assert names_unknown(text) == []


def test_a_file_or_name_of_another_version_is_found():
    text = "`core/em.py` `core/gone.py` `gone/` `m_steps.temperature.gone` `m_steps.temperature.Constant` `Spec.squash`"
    assert files_unknown(text) == ["core/gone.py", "gone/"]
    assert names_unknown(text) == ["m_steps.temperature.gone"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_lines_fit_a_terminal(page):
    lines = page.read_text("utf-8").splitlines()
    assert not [line for line in lines if len(line) > glossary.WIDTH and not line.startswith("|")]


def test_the_glossary_is_that_of_the_tables():
    text = (DOCS / "glossary.md").read_text("utf-8")
    assert text == glossary.markdown(), "run: python docs/generate/glossary.py docs/glossary.md"
    assert not [line for line in text.splitlines() if NEW_ITEM.match(line)]


def test_a_changed_word_would_change_the_glossary(monkeypatch):
    before = glossary.markdown()
    first, *others = glossary.entries()
    monkeypatch.setattr(glossary, "entries", lambda: (first._replace(meaning="Another meaning."), *others))
    assert glossary.markdown() != before


def test_the_table_of_algorithms_is_that_of_their_files():
    text = (DOCS / "algorithms.md").read_text("utf-8")
    assert table.rewrite(text, table.COLUMNS) == text, "run: python docs/generate/table.py docs/algorithms.md"


def test_a_changed_docstring_would_change_the_table_of_algorithms():
    text = (DOCS / "algorithms.md").read_text("utf-8").replace("tanh-Gaussian", "Gaussian")
    assert table.rewrite(text, table.COLUMNS) != text


@pytest.mark.long
def test_what_composes_is_what_was_tried():
    text = (DOCS / "combinations.md").read_text("utf-8")
    assert text == combinations.markdown(), "run: python docs/generate/combinations.py docs/combinations.md"
