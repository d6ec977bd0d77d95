"""The pages that scripts write are up to date, and their lines can be read in a terminal."""

import re
from pathlib import Path

import combinations
import glossary
import pytest
import table

DOCS = Path(__file__).parents[1] / "docs"
NEW_ITEM = re.compile(r"\s+([-+*]|1[.)])\s")
"""A line that continues an item and that Markdown would take for a new one."""


def test_the_glossary_is_that_of_the_tables():
    text = (DOCS / "glossary.md").read_text("utf-8")
    assert text == glossary.markdown(), "run: python docs/generate/glossary.py docs/glossary.md"
    assert all(len(line) <= glossary.WIDTH for line in text.splitlines())
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
