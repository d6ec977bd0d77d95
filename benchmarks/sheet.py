"""The CSVs: where they go, what they say of the machine, and the options all scripts share."""

from __future__ import annotations

import argparse
import csv
import os
import platform
import signal
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from race import Contender, race, summary

from estep.runs import provenance

RESULTS = Path(__file__).parent / "results"
PACKAGES = {
    **{name: name for name in ("estep", "jax", "jaxlib", "numpy", "torch", "gymnasium", "mujoco")},
    **{"sbx": "sbx-rl", "sb3": "stable-baselines3"},
}


def version(package: str) -> str:
    """The version that is installed, read without importing it; empty where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def machine() -> dict[str, str]:
    """What every row carries: when, what and where. The load is that of the minute before."""
    hardware, git = provenance.hardware(), provenance.git(Path(__file__).parent)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": "" if git is None else git["sha"][:10] + ("+" if git["dirty"] else ""),
        "cpu": hardware["cpu"],
        "cores": str(hardware["cores"]),
        "memory_gib": f"{hardware['memory'] / 2**30:.1f}",
        "load": f"{os.getloadavg()[0]:.2f}",
        "os": platform.platform(),
        "python": platform.python_version(),
        **{column: version(package) for column, package in PACKAGES.items()},
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def write(path: Path, rows: Sequence[Mapping[str, str]], here: Mapping[str, str]) -> None:
    """Append rows to a CSV, made with its folder where it is missing.

    Raises:
        SystemExit: the file has other columns.
    """
    columns = [*rows[0], *here]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", newline="") as file:
        file.seek(0)
        found = next(csv.reader(file), None)
        if found not in (None, columns):
            raise SystemExit(f"{path} has other columns. Give another --out.")
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if found is None:
            writer.writeheader()
        writer.writerows({**row, **here} for row in rows)


def parser(script: str, doc: str | None) -> argparse.ArgumentParser:
    """The options of every script; its docstring is the help. From here on SIGTERM ends a script as Ctrl-C does, so
    that its processes end with it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = RESULTS / f"{Path(script).stem}-{version('estep')}.csv"
    made.add_argument("--out", type=Path, default=default, help=f"CSV to append to (default: {default.name})")
    return made


def race_parser(script: str, doc: str | None, rounds: int, seconds: float, baseline: str) -> argparse.ArgumentParser:
    """The options of scripts whose contenders take turns."""
    made = parser(script, doc)
    made.add_argument("--rounds", type=int, default=rounds, help=f"windows of each contender ({rounds})")
    made.add_argument("--seconds", type=float, default=seconds, help=f"length of a window ({seconds:g})")
    made.add_argument("--baseline", default=baseline, help=f"the contender that ratios refer to ({baseline})")
    made.add_argument("--only", nargs="+", metavar="NAME", help="contenders to run (all)")
    return made


def pinnable(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """With the option to give every contender a single core."""
    made.add_argument("--pin", type=int, metavar="CORE", help="pin every contender to this core (none)")
    return made


def chosen(contenders: Sequence[Contender], only: Sequence[str] | None, baseline: str) -> list[Contender]:
    """The contenders asked for. Raises SystemExit where a name is unknown, or the baseline is not among them."""
    names = [one.name for one in contenders]
    if unknown := {*(only or ()), baseline} - set(names):
        raise SystemExit(f"There is no contender {min(unknown)!r}. Choose from: {', '.join(names)}.")
    return [one for one in contenders if only is None or one.name in only or one.name == baseline]


def run(args: argparse.Namespace, unit: str, contenders: Sequence[Contender]) -> None:
    """Race, write the CSV, and print it in short."""
    here = machine()
    rates = race(chosen(contenders, args.only, args.baseline), args.rounds, args.seconds)
    fixed = {"unit": f"{unit}/s", "seconds": f"{args.seconds:g}", "baseline": args.baseline}
    pin = "" if getattr(args, "pin", None) is None else str(args.pin)
    base = rates[args.baseline]
    rows = [{"contender": name, "core": pin, **fixed, **summary(found, base)} for name, found in rates.items()]
    write(args.out, rows, here)
    show(rows, ("contender", "best", "median", "lowest", "highest", "windows", "ratio_of_medians", "median_of_ratios"))
    print(f"{unit}/s, ratios to {args.baseline}; wrote {args.out}")


def show(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    """Print some columns, aligned."""
    table = [list(columns), *([row[name] for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
