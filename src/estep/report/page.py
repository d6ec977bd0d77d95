"""The page of a run: one HTML file that holds its numbers, its style and its script."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from estep.report.contents import contents
from estep.report.curves import is_number
from estep.runs import storage
from estep.runs.folder import RunFolder

NAME = "report.html"
ASSETS = Path(__file__).parent
WIDTH, HEIGHT, LEFT, BOTTOM = 800, 300, 70, 30
"""Of the curve that is there without scripts, and its margins."""
RELOAD = 30
"""Seconds after which the page of a run that is going on reads itself again."""


def write(folder: RunFolder, out: Path | None = None, member: str | None = None) -> tuple[Path, dict[str, Any]]:
    """Write the report of a run, atomically; returns its path and what it holds.

    Args:
        folder: the run folder.
        out: the file; report.html in the run folder if None.
        member: folder of one seed of a population.

    Raises:
        RejectedInput: a file of the run cannot be read.
        StorageFailure: the disk fails.
    """
    found = contents(folder, member)
    inner = folder.path if member is None else folder.path / "members" / member
    path = inner / NAME if out is None else out
    storage.write_atomic(path, page(found).encode())
    return path, found


def page(found: Mapping[str, Any]) -> str:
    """The whole page as text. No text of the run is taken for a part of the page.

    Args:
        found: what `contents` returns.
    """
    title = html.escape(found["title"])
    reload = f'<meta http-equiv="refresh" content="{RELOAD}">' if found["status"] == "running" else ""
    # In a script, "<" could end it and "&" is no escape: JSON has an escape of its own.
    data = json.dumps(found, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">{reload}
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'; img-src data:; media-src data:">
<link rel="icon" href="data:,">
<title>{title}</title><style>{_asset("report.css")}</style></head><body>
<header><h1>{title}</h1><p class="status">{html.escape(str(found["status"]))}</p></header>
<main>
<section id="returns"><h2>Return</h2><div class="chart">{drawing(found["returns"])}</div></section>
<section id="health"><h2>Health</h2>{_health(found["health"])}</section>
<section id="improvement"><h2>Improvement of V by each iteration of inference</h2></section>
<section id="times"><h2>Where the time went</h2></section>
<section id="about"><h2>What was run</h2>{_table(found["about"])}</section>
<section id="changes"><h2>Differences from the defaults</h2>{_table(found["changes"], ("setting", "value", "default"))}\
</section>
<section id="figures"><h2>Figures of estep inspect</h2>{_figures(found["figures"])}</section>
<section id="metrics"><h2>Metrics</h2></section>
</main>
<noscript>The curves can be read, enlarged and searched where scripts are allowed.</noscript>
<script type="application/json" id="data">{data}</script>
<script>{_asset("report.js")}</script>
</body></html>
"""


def drawing(series: Sequence[Mapping[str, Any]]) -> str:
    """Curves as SVG, for readers without scripts.

    Args:
        series: each with a name and a curve [x, y].
    """
    points = [[(x, y) for x, y in zip(*one["curve"], strict=True) if is_number(y)] for one in series]
    every = [point for one in points for point in one]
    if not every:
        return "<p>There is no evaluation yet.</p>"
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
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="return over environment steps">'
        f"{''.join(lines)}{ticks}</svg>"
    )


def _range(values: Any) -> tuple[float, float]:
    """Least and largest, apart where they are equal."""
    known = list(values)
    low, high = min(known), max(known)
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def _health(lights: Sequence[Mapping[str, str]]) -> str:
    rows = (
        f'<tr><th>{light["name"]}</th><td class="light {light["word"].replace(" ", "-")}">{light["word"]}</td>'
        f"<td>{html.escape(light['sentence'])}</td></tr>"
        for light in lights
    )
    return f"<table>{''.join(rows)}</table>"


def _table(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """A table whose first column has headings. Its texts are never taken for a part of the page."""
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = (
        f"<tr><th>{html.escape(first)}</th>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
        for first, *cells in rows
    )
    return f"<table>{f'<tr>{top}</tr>' if top else ''}{''.join(lines)}</table>"


def _figures(figures: Sequence[Mapping[str, str]]) -> str:
    shown = (
        f'<figure><img alt="{html.escape(one["name"])}" src="{one["image"]}">'
        f"<figcaption>{html.escape(one['name'])}</figcaption></figure>"
        if one["image"]
        else f"<p>{html.escape(one['name'])} is in the run folder; it is too large for this page.</p>"
        for one in figures
    )
    return "".join(shown) or "<p>estep inspect RUN makes them.</p>"


def _asset(name: str) -> str:
    return (ASSETS / name).read_text("utf-8")
