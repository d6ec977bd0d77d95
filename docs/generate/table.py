"""The tables of algorithms, from the docstrings of the algorithm files.

`python docs/generate/table.py README.md docs/algorithms.md` rewrites both: the README has the short one.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from estep.algorithms import ALGORITHMS
from estep.runs import storage

BEGIN, END = "<!-- table: from the algorithm files -->", "<!-- end of table -->"
COLUMNS = ("algorithm", "paper", "prior", "posterior", "likelihood", "inference", "temperature")
SHORT = ("algorithm", "posterior", "inference", "paper")
README = "README.md"


def row(name: str) -> dict[str, str]:
    """One algorithm by column: its name and paper, and the words of its docstring.

    Raises:
        ValueError: the docstring lacks a column.
    """
    text = sys.modules[ALGORITHMS[name].__module__].__doc__ or ""
    title = text.splitlines()[0].rstrip(".")
    paper = re.search(r"\((.*)\)$", title)
    words = dict(re.findall(r"^([a-z-]+) {2,}(\S.*?)(?: {2,}.*)?$", text, re.MULTILINE))
    found = {**words, "algorithm": f"`{name}`", **({"paper": paper.group(1)} if paper else {})}
    missing = [column for column in COLUMNS if column not in found]
    if missing:
        raise ValueError(f"the docstring of {name} lacks {', '.join(missing)}")
    return found


def markdown(columns: tuple[str, ...]) -> str:
    """The whole table."""
    rows = [[found[column] for column in columns] for found in map(row, ALGORITHMS)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [columns, ["---"] * len(columns), *rows])


def rewrite(text: str, columns: tuple[str, ...]) -> str:
    """A text with the table between its marks made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{markdown(columns)}\n{END}{after}"


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]):
        columns = SHORT if page.name == README else COLUMNS
        storage.write_atomic(page, rewrite(page.read_text("utf-8"), columns).encode())
