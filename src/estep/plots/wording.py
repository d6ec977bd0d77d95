"""Names of curves in words, in lines that fit."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

BLANK = "\N{NO-BREAK SPACE}"


def label(algorithm: str, values: Mapping[str, Any]) -> str:
    """An algorithm and some of its settings, for people.

    Example:
        >>> label("iterative-sac", {"act_iterations": 5, "direct_start": False})
        'iterative-sac (act_iterations 5, no direct_start)'
    """
    texts = ", ".join(_text(name, value) for name, value in values.items())
    return f"{algorithm} ({texts})" if texts else algorithm


def wrap(text: str, width: int) -> list[str]:
    """A label in lines that do not part a setting from its value.

    Example:
        >>> wrap("iterative-sac (act_iterations 5, no direct_start), 2 seeds", 40)
        ['iterative-sac (act_iterations 5,', '    no direct_start), 2 seeds']
    """
    whole = text.replace(" ", BLANK).replace(f",{BLANK}", ", ")
    lines = textwrap.wrap(whole, width, subsequent_indent="    ", break_on_hyphens=False)
    return [line.replace(BLANK, " ") for line in lines]


def _text(name: str, value: Any) -> str:
    if value is True:
        return name
    if value is None or value is False or value in ("", []):
        return f"no {name}"
    items = [f"{item:g}" if isinstance(item, float) else str(item) for item in _items(value)]
    return f"{name} {'×'.join(items)}"


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
