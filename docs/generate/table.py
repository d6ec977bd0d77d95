"""The README's table, from the docstrings of the algorithm files.

`python docs/generate/table.py README.md` rewrites it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from estep.algorithms import ALGORITHMS
from estep.runs import storage

BEGIN, END = "<!-- table: from the algorithm files -->", "<!-- end of table -->"
COLUMNS = ("prior", "posterior", "likelihood", "inference", "temperature")


def row(name: str) -> list[str]:
    """One row: the algorithm's name and paper, and the word that its docstring has for each column.

    Raises:
        ValueError: the docstring lacks a column.
    """
    text = sys.modules[ALGORITHMS[name].__module__].__doc__ or ""
    title = text.splitlines()[0].rstrip(".")
    paper = re.search(r"\((.*)\)$", title)
    words = dict(re.findall(r"^([a-z-]+) {2,}(\S.*?)(?: {2,}.*)?$", text, re.MULTILINE))
    missing = [column for column in COLUMNS if column not in words]
    if paper is None or missing:
        raise ValueError(f"the docstring of {name} lacks {missing or 'its paper'}")
    return [f"`{name}`", paper.group(1), *(words[column] for column in COLUMNS)]


def markdown() -> str:
    """The whole table."""
    rows = [["algorithm", "paper", *COLUMNS], ["---"] * (len(COLUMNS) + 2), *(row(name) for name in ALGORITHMS)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def rewrite(text: str) -> str:
    """A text with the table between its marks made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{markdown()}\n{END}{after}"


if __name__ == "__main__":
    readme = Path(sys.argv[1])
    storage.write_atomic(readme, rewrite(readme.read_text("utf-8")).encode())
