"""What a report of a run holds, gathered from its folder as values of JSON. The run may be going on."""

from __future__ import annotations

import base64
import csv
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from estep.envs.tasks.sources import ALL
from estep.errors import RejectedInput, describe
from estep.report import health
from estep.report.curves import Curve, collect, short
from estep.runs import reading, tables
from estep.runs.folder import EPISODES, EVALUATIONS, MEMBERS, METRICS, VIDEOS, RunFolder, member_path
from estep.runs.lines import records
from estep.settings import metrics, renamed, schema
from estep.settings.schema import Row

FIGURES = 600_000
"""Bytes of figures of `estep inspect` that are put into a report. The others are named."""
VIDEO = 2_000_000
"""Largest size of a video of `estep record` that is put into a report, in bytes."""
VIDEO_KINDS = {".mp4": "video/mp4", ".webp": "image/webp"}
IMPROVEMENT = "e/improvement_"
TIMES = "time/"


def contents(folder: RunFolder, member: int | None = None) -> dict[str, Any]:
    """Everything that the page of a run shows.

    Args:
        folder: the run folder.
        member: the seed of a population whose lines are read; None for a run of one seed, or for all.

    Raises:
        RejectedInput: a file of the run cannot be read.
    """
    config, record = folder.read_config(), folder.read_run()
    at = folder.path if member is None else member_path(folder.path, member)
    try:
        return _gathered(folder, at, config, record)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"The records of {folder.path} are not those of a run: {describe(error)}."
        raise RejectedInput(what, "Restore config.json and run.json from a backup.") from error


def _gathered(folder: RunFolder, at: Path, config: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """As `contents`. `at` is the folder of the lines."""
    algorithm, row = dict(config["algorithm"]), schema.rows().get(config["algorithm"]["name"])
    curves = collect(records(at / METRICS))
    returns = _returns(folder.path, at, int(config["run"]["seed"]))
    marked = _text(at / "best")
    lights = health.lights(curves, algorithm, _measured(at / "plots"), _flat(row, algorithm))
    return {
        "title": f"{algorithm['name']} on {config['env']['id']}"
        + (f", member {int(at.name)}" if at != folder.path else ""),
        "status": str(record.get("status", "unknown")),
        "about": _about(config, record, at, row),
        "changes": _changes(folder, row),
        "charts": {"returns": returns},
        "best": int(marked.removeprefix("step_")) if marked.removeprefix("step_").isdigit() else None,
        "axes": {name: _points(curves[name]) for name in ("updates", "wall_s") if name in curves},
        "health": [light._asdict() for light in lights],
        "improvement": _improvement(curves),
        "times": {name.removeprefix(TIMES): ys[-1] for name, (_, ys) in curves.items() if name.startswith(TIMES)},
        "metrics": {name: {"curve": _points(curve), **_meaning(name)} for name, curve in sorted(curves.items())},
        "figures": list(_figures(at / "plots")),
        "video": _video(at / VIDEOS),
        "several": at == folder.path and (at / MEMBERS).is_dir(),
    }


def _about(config: Mapping[str, Any], record: Mapping[str, Any], at: Path, row: Row | None) -> list[tuple[str, str]]:
    """What was run, as pairs of a label and a text."""
    algorithm = config["algorithm"]
    table = "\n".join(line.strip() for line in row.table.splitlines()) if row else ""
    result, hardware = record.get("result") or {}, record.get("hardware") or {}
    versions, git = record.get("versions") or {}, record.get("git") or {}
    told = {
        "algorithm": algorithm["name"],
        "row of the table": table,
        "environment": config["env"]["id"],
        "preset": config.get("preset") or "",
        "seed": config["run"]["seed"],
        "started": record.get("started"),
        "ended": record.get("ended"),
        "error": record.get("error"),
        "failed seeds": "\n".join(_failed(record)),
        "went on otherwise": "\n".join(_breaks(record)),
        "environment steps": f"{result['env_steps']:,}" if result.get("env_steps") else "",
        "updates": f"{result['updates']:,}" if result.get("updates") else "",
        "commit": f"{git['sha']}{' (with changes)' if git.get('dirty') else ''}" if git.get("sha") else "",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "hardware": ", ".join(f"{name} {value}" for name, value in hardware.items()),
        "folder": at.name,
        "command": shlex.join(map(str, record.get("command") or ())),
    }
    return [(label, str(text)) for label, text in told.items() if text not in (None, "")]


def _failed(record: Mapping[str, Any]) -> Iterator[str]:
    """The seeds of a population that failed, with the step and the reason."""
    for one in (record.get("failed") or {}).values():
        yield f"seed {one['seed']} at {one['env_steps']:,} steps: {one['why']}"


def _breaks(record: Mapping[str, Any]) -> Iterator[str]:
    """Where a run went on with other settings, as the copy of another run, or on another machine."""
    for one in record.get("forks") or ():
        changed = (f"{name} {one['before'][name]} is now {value}" for name, value in one["after"].items())
        yield f"at {one['env_steps']:,} steps as a copy of {one['source']}: {'; '.join(changed)}"
    for one in record.get("drifts") or ():
        yield f"at {one['env_steps']:,} steps: {'; '.join(map(str, one['changes']))}"


def _flat(row: Row | None, settings: Mapping[str, Any]) -> bool:
    """Whether the prior of an algorithm is flat: by its setting, or by its row of the design table."""
    rows = [line.split() for line in row.table.splitlines()] if row else []
    named = {words[0]: words[1] for words in rows if len(words) > 1}
    return bool(settings.get("prior", named.get("prior")) == "flat")


def _changes(folder: RunFolder, row: Row | None) -> list[tuple[str, str, str]]:
    """The settings that differ from the defaults: name, value and default."""
    defaults = {field.name: field.default for field in (*(row.fields if row else ()), *schema.run_fields())}
    given = renamed.settings(folder.read_diff(), defaults)
    return [(name, _written(value), _written(defaults.get(name))) for name, value in given.items()]


def _written(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _returns(run: Path, at: Path, first: int) -> list[dict[str, Any]]:
    """The curves of returns: evaluations with their spread, of each seed and task, and the training episodes. `first`
    is the seed of a run, or of the first member of a population."""
    seeds = sorted((run / MEMBERS).glob("*/eval.csv")) if run == at else []
    named = {f"seed {first + int(path.parent.name)}: ": path for path in seeds} or {"": at / EVALUATIONS}
    found = [one for prefix, path in named.items() for one in _evaluations(path, prefix)]
    episodes = collect(_numbers(at / EPISODES)).get("return")
    if episodes:
        found.append({"name": "training episodes", "curve": _points(episodes), "behind": True})
    return found


def _evaluations(path: Path, prefix: str) -> Iterator[dict[str, Any]]:
    """The evaluations of one seed, and of each of its tasks."""
    rows = list(_cells(path))
    for task in dict.fromkeys(row.get("task", ALL) for row in rows):
        of_task = [{**row, "task": "", "success": ""} for row in rows if row.get("task", ALL) == task]
        curves = collect(_as_numbers(row) for row in of_task)
        if "mean" in curves:
            name = "evaluation (mean ± std over episodes)" if task == ALL else task
            yield {"name": f"{prefix}{name}", "curve": [list(axis) for axis in curves["mean"]], **_band(curves)}


def _band(curves: Mapping[str, Curve]) -> dict[str, Any]:
    """The mean of an evaluation less and plus its standard deviation, where both are known at every point."""
    if "std" not in curves or curves["std"][0] != curves["mean"][0]:
        return {}
    pairs = list(zip(curves["mean"][1], curves["std"][1], strict=True))

    def end(sign: float, mean: float | None, std: float | None) -> float | None:
        return None if mean is None or std is None else short(mean + sign * std)

    return {"band": [[end(sign, *pair) for pair in pairs] for sign in (-1, 1)]}


def _cells(path: Path) -> Iterator[dict[str, str]]:
    """The cells of a CSV of the run, line by line; none where it was not written yet. Raises RejectedInput."""
    if not path.is_file():
        return
    try:
        yield from tables.cells(path)
    except (OSError, ValueError, csv.Error) as error:
        raise RejectedInput(f"{path} cannot be read: {describe(error)}.", "Restore the file from a backup.") from error


def _numbers(path: Path) -> Iterator[dict[str, float | None]]:
    return map(_as_numbers, _cells(path))


def _as_numbers(row: Mapping[str, str]) -> dict[str, float | None]:
    found = {}
    for name, text in row.items():
        try:
            found[name] = float(text) if text else None
        except ValueError:  # a name, or a truth value
            continue
    return found


def _points(curve: Curve) -> list[list[float | None]]:
    return [[int(x) if x == int(x) else x for x in curve[0]], [short(y) for y in curve[1]]]


def _improvement(curves: Mapping[str, Curve]) -> list[tuple[int, float]]:
    """Iterations, and the improvement of V over the last quarter of the run."""
    found = []
    for name, (_, ys) in curves.items():
        known = [y for y in ys[-max(len(ys) // health.LATE, 1) :] if y is not None]
        if name.startswith(IMPROVEMENT) and known:
            found.append((int(name.removeprefix(IMPROVEMENT)), sum(known) / len(known)))
    return [(0, 0.0), *sorted(found)] if found else []


def _measured(plots: Path) -> dict[str, float]:
    """What `estep inspect` found: the over-estimation of the critic, and the realised gain of its last optimiser."""
    biases = [row for row in _cells(plots / "calibration.csv") if row.get("own") == "True"]
    gains = list(_cells(plots / "realised.csv"))
    found = {"over-estimation": biases[0].get("mean", "")} if biases else {}
    found |= {"realised": gains[0].get("realised", "")} if gains else {}
    return {name: number for name, number in _as_numbers(found).items() if number is not None}


def _meaning(name: str) -> dict[str, str]:
    """What the glossary says of a metric."""
    known = [metric for metric in metrics.find(name) if metric.file == METRICS]
    return {"meaning": known[0].meaning, "unit": known[0].unit} if known else {"meaning": "", "unit": ""}


def _figures(plots: Path) -> Iterator[dict[str, str]]:
    """The figures of `estep inspect`: as they are up to a size, and the names of the others."""
    left = FIGURES
    for path in sorted(plots.glob("*.png")):
        try:
            image = reading.read_path(path, left)
        except (OSError, ValueError):
            yield {"name": path.name, "image": ""}
        else:
            left -= len(image)
            yield {"name": path.name, "image": f"data:image/png;base64,{base64.b64encode(image).decode()}"}


def _video(videos: Path) -> dict[str, str] | None:
    """The video of the latest step: its name, its kind, and its data unless it is too large."""
    found = [path for path in videos.glob("*") if path.suffix in VIDEO_KINDS and path.stem.startswith("step_")]
    steps = {path: int(number) for path in found if (number := path.stem.removeprefix("step_")).isdecimal()}
    if not steps:
        return None
    path = max(steps, key=lambda one: (steps[one], one.name))
    kind = VIDEO_KINDS[path.suffix]
    try:
        data = base64.b64encode(reading.read_path(path, VIDEO)).decode()
    except (OSError, ValueError):
        return {"name": path.name, "kind": kind, "data": ""}
    return {"name": path.name, "kind": kind, "data": f"data:{kind};base64,{data}"}


def _text(path: Path) -> str:
    """A small file as text, or nothing."""
    try:
        return reading.read_path(path, 200).decode("ascii", "replace").strip()
    except (OSError, ValueError):
        return ""
