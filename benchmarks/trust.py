"""What does it cost that a run survives what surrounds it?

    python benchmarks/trust.py --of views [--pin 0]     environment steps a second with TensorBoard's file, without it,
                                                        and with a disk that hangs under it (at most 1 % slower)
    python benchmarks/trust.py --of gradients --pin 0   updates a second of SAC with gradients far too large shortened,
                                                        and without (at most 2 % slower)

The loops are those of `end_to_end.py` and `updates.py`. A line of metrics is written every hundred steps, ten times as
often as by default.
"""

from __future__ import annotations

import functools as ft
import threading
from pathlib import Path
from typing import Any

import sheet
from contenders import ENDLESS, WARM, estep_row_updates, estep_run
from end_to_end import AFTER
from race import Contender, Gate, contender

BLOCK = 8
BASELINES = {"views": "without views", "gradients": "plain Adam"}


def loop(kind: str, gate: Gate) -> None:
    """Environment steps in the steady state, one update for each, with views of the metrics of some kind."""
    from estep.runs import storage
    from estep.training import run

    if kind == "without views":
        sinks = run.Sinks
        quiet: Any = lambda folder, resumed_at, note, several: sinks(folder, resumed_at, None, several)
        run.Sinks = quiet  # type: ignore[misc]
    if kind == "views on a disk that hangs":

        def hang(name: str, path: Path) -> None:
            if "tb" in path.parts:
                threading.Event().wait()

        storage.hook = hang
    estep_run(gate, steps=ENDLESS, warmup_steps=WARM, updates_per_call=BLOCK, log_every=100)


def updates(kind: str, gate: Gate) -> None:
    """Updates of SAC with their sampling, with gradients far too large shortened or not."""
    from estep.core import optim

    if kind == "plain Adam":
        as_they_are: Any = lambda old, new, *unused: new
        optim.shortened = as_they_are
    estep_row_updates("sac", {}, BLOCK, gate)


def contenders(of: str, core: int | None) -> list[Contender]:
    """Everyone."""
    if of == "views":
        names = "without views", "views", "views on a disk that hangs"
        return [contender(name, ft.partial(loop, name), WARM + AFTER, core) for name in names]
    return [contender(name, ft.partial(updates, name), 3 * BLOCK, core) for name in ("plain Adam", "Adam")]


def main() -> None:
    parser = sheet.pinnable(sheet.race_parser(__file__, __doc__, 15, 4.0, ""))
    parser.add_argument("--of", choices=tuple(BASELINES), required=True, help="what is measured")
    args = parser.parse_args()
    args.baseline = args.baseline or BASELINES[args.of]
    sheet.run(args, "env steps" if args.of == "views" else "updates", contenders(args.of, args.pin))


if __name__ == "__main__":
    main()
