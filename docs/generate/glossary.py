"""The glossary of the docs, from the same words that `estep explain` prints.

`python docs/generate/glossary.py docs/glossary.md` rewrites it.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from estep.runs import storage
from estep.settings.glossary import TERM, TOPICS, Entry, entries
from estep.settings.numbers.metric import ALWAYS

WIDTH = 120
HEAD = """# Glossary

What every setting, metric and term means. `estep explain NAME` prints the same on the command line.
This file is generated: `python docs/generate/glossary.py docs/glossary.md`.
"""


def markdown() -> str:
    """The whole page."""
    return HEAD + "".join(f"\n## {topic}\n\n" + "\n".join(_lines(topic)) + "\n" for topic in TOPICS)


def _lines(topic: str) -> Iterator[str]:
    for entry in entries():
        if entry.topic == topic:
            yield textwrap.fill(_text(entry), WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _text(entry: Entry) -> str:
    """One item of the list."""
    facts = dict(entry.facts)
    if entry.topic == TERM:
        symbol = f" (`{facts['symbol']}`)" if facts else ""
        text = f"- **{entry.name}**{symbol}: {_sentence(entry.meaning)}"
    else:
        name = facts.pop("flag", entry.name)
        rest = "; ".join(_fact(label, text) for label, text in facts.items() if text != ALWAYS)
        text = f"- **`{name}`** {_sentence(entry.meaning)} {rest}".rstrip()
    return text.replace(" - ", " − ")  # a dash at the beginning of a line would make a new item


def _fact(label: str, text: str) -> str:
    """What else there is to say. No full stop: a number with one at the beginning of a line would make a new list."""
    shown = f"`{text}`" if label in ("old name", "shown as") else _sentence(text)
    return f"*{label}*: {shown.rstrip('.')}"


def _sentence(text: str) -> str:
    """Text in which Markdown takes nothing for a mark."""
    return text.replace("_", r"\_").replace("*", r"\*").replace("<", r"\<")


if __name__ == "__main__":
    storage.write_atomic(Path(sys.argv[1]), markdown().encode())
