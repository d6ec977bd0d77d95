"""What all pages share: the frame with its style and script, tables, and curves for readers without scripts."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from estep.report.curves import is_number

ASSETS = Path(__file__).parent
WIDTH, HEIGHT, LEFT, BOTTOM = 800, 300, 70, 30
"""Of the curve that is there without scripts, and its margins."""


def frame(found: Mapping[str, Any], sections: Sequence[tuple[str, str, str]], reload: int = 0) -> str:
    """A whole page as text.

    Args:
        found: what the script reads. Its `title` and `status` are shown; `charts` has the curves of sections by id, and
            `options` the horizontal axis `x` and the `label` of those that are not returns over environment steps.
        sections: of each its id, its heading and what is in it, as HTML.
        reload: seconds after which the page reads itself again; 0 never.
    """
    title = html.escape(found["title"])
    again = f'<meta http-equiv="refresh" content="{reload}">' if reload else ""
    # In a script, "<" could end it and "&" is no escape: JSON has an escape of its own.
    data = json.dumps(found, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    body = "\n".join(
        f'<section id="{name}"><h2>{html.escape(heading)}</h2>{inner}</section>' for name, heading, inner in sections
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">{again}
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'; img-src data:; media-src data:">
<link rel="icon" href="data:,">
<title>{title}</title><style>{_asset("report.css")}</style></head><body>
<header><h1>{title}</h1><p class="status">{html.escape(str(found["status"]))}</p></header>
<main>
{body}
</main>
<noscript>The curves can be read, enlarged and searched where scripts are allowed.</noscript>
<script type="application/json" id="data">{data}</script>
<script>{_asset("report.js")}</script>
</body></html>
"""


def drawing(series: Sequence[Mapping[str, Any]], label: str = "return over environment steps") -> str:
    """Curves as SVG, for readers without scripts.

    Args:
        series: each with a name and a curve [x, y].
        label: what is drawn.
    """
    points = [[(x, y) for x, y in zip(*one["curve"], strict=True) if is_number(y)] for one in series]
    every = [point for one in points for point in one]
    if not every:
        return '<div class="chart"><p>There is no evaluation yet.</p></div>'
    (left, right), (low, high) = _range(x for x, _ in every), _range(y for _, y in every)
    wide, tall = WIDTH - LEFT, HEIGHT - BOTTOM

    def place(x: float, y: float) -> str:
        return f"{LEFT + (x - left) / (right - left) * wide:.1f},{(high - y) / (high - low) * tall:.1f}"

    lines = [
        f'<polyline class="line{i % 8}{" behind" if one.get("behind") else ""}" '
        f'points="{" ".join(place(*point) for point in of_one)}"><title>{html.escape(one["name"])}</title></polyline>'
        for i, (one, of_one) in enumerate(zip(series, points, strict=True))
    ]
    ticks = "".join(
        f'<text x="{LEFT - 6}" y="{tall * (1 - part) + (10 if part else 0):.0f}" text-anchor="end">'
        f"{low + part * (high - low):.4g}</text>"
        f'<text x="{LEFT + part * wide:.0f}" y="{HEIGHT - 8}" text-anchor="{"end" if part else "start"}">'
        f"{left + part * (right - left):,.0f}</text>"
        for part in (0, 1)
    )
    return (
        f'<div class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(label)}">'
        f"{''.join(lines)}{ticks}</svg></div>"
    )


def _range(values: Any) -> tuple[float, float]:
    """Least and largest, apart where they are equal."""
    known = list(values)
    low, high = min(known), max(known)
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def table(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """A table whose first column has headings. Its texts are never taken for a part of the page."""
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = (
        f"<tr><th>{html.escape(first)}</th>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
        for first, *cells in rows
    )
    return f"<table>{f'<tr>{top}</tr>' if top else ''}{''.join(lines)}</table>"


def _asset(name: str) -> str:
    return (ASSETS / name).read_text("utf-8")
