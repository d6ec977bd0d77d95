"""The page of a run: one HTML file that holds its numbers, its style and its script."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from estep.report.contents import contents
from estep.report.frame import drawing, frame, table
from estep.runs import storage
from estep.runs.folder import RunFolder, member_path

NAME = "report.html"
HEAD = ("algorithm", "environment", "seed", "environment steps", "updates")
"""What the head of a report says of the run."""
SEVERAL = "<p>estep report RUN --member 0 shows health and metrics of the first seed, and so on.</p>"
RELOAD = 30
"""Seconds after which the page of a run that is going on reads itself again."""


def write(folder: RunFolder, out: Path | None = None, member: int | None = None) -> tuple[Path, dict[str, Any]]:
    """Write the report of a run, atomically; returns its path and what it holds.

    Args:
        folder: the run folder.
        out: the file; report.html in the run folder if None.
        member: the seed of a population; None for a run of one seed, or for all.

    Raises:
        RejectedInput: a file of the run cannot be read.
        StorageFailure: the disk fails.
    """
    found = contents(folder, member)
    inner = folder.path if member is None else member_path(folder.path, member)
    path = inner / NAME if out is None else out
    storage.write_atomic(path, page(found).encode())
    return path, found


def page(found: Mapping[str, Any]) -> str:
    """The whole page as text. No text of the run is taken for a part of the page.

    Args:
        found: what `contents` returns.
    """
    sections = [
        ("returns", "Return", drawing(found["charts"]["returns"])),
        ("health", "Health", SEVERAL if found["several"] else _health(found["health"])),
        ("improvement", "Improvement of V by each iteration of inference", ""),
        ("times", "Where the time went", ""),
        ("about", "What was run", table(found["about"])),
        ("changes", "Differences from the defaults", table(found["changes"], ("setting", "value", "default"))),
        ("figures", "Figures of estep inspect", _figures(found["figures"])),
        ("metrics", "Metrics", ""),
    ]
    if found["video"] is not None:
        sections.insert(2, ("video", "Video", _video(found["video"])))
    shown = {name: value for name, value in found.items() if name != "video"}  # whose data are in the section
    return frame(shown, sections, RELOAD if found["status"] == "running" else 0)


def head(folder: RunFolder) -> str:
    """The first part of a report as HTML that can stand in another page, without scripts: its title, the curve of the
    returns, and what was run.

    Args:
        folder: the run folder.

    Raises:
        RejectedInput: a file of the run cannot be read.
    """
    found = contents(folder)
    curve = drawing(found["charts"]["returns"]).replace("<polyline", '<polyline fill="none" stroke="#2563eb"')
    title = f"<strong>{html.escape(found['title'])}</strong> ({html.escape(found['status'])})"
    told = [row for row in found["about"] if row[0] in HEAD]
    return f'<div style="max-width: 40em">{title}{curve}{table(told)}</div>'


def _health(lights: Sequence[Mapping[str, str]]) -> str:
    rows = (
        f'<tr><th>{light["name"]}</th><td class="light {light["word"].replace(" ", "-")}">{light["word"]}</td>'
        f"<td>{html.escape(light['sentence'])}</td></tr>"
        for light in lights
    )
    return f"<table>{''.join(rows)}</table>"


def _video(video: Mapping[str, str]) -> str:
    """A video that a browser plays, or its name where it is too large."""
    name = html.escape(video["name"])
    if not video["data"]:
        return f"<p>{name} is in the folder videos of the run; it is too large for this page.</p>"
    if video["kind"].startswith("image/"):
        shown = f'<img alt="the policy" src="{video["data"]}">'
    else:
        shown = f'<video controls muted loop playsinline src="{video["data"]}"></video>'
    return f"<figure>{shown}<figcaption>{name}</figcaption></figure>"


def _figures(figures: Sequence[Mapping[str, str]]) -> str:
    shown = (
        f'<figure><img alt="{html.escape(one["name"])}" src="{one["image"]}">'
        f"<figcaption>{html.escape(one['name'])}</figcaption></figure>"
        if one["image"]
        else f"<p>{html.escape(one['name'])} is in the run folder; it is too large for this page.</p>"
        for one in figures
    )
    return "".join(shown) or "<p>estep inspect RUN makes them.</p>"
