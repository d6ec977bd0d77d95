"""How long does one action take, in one state?

The path of the training loop (`Trainer.choose`; the peers' `_sample_action`), that of a trained policy
(`estep.Policy.act`; the peers' `predict`, deterministic), and that of the files of `estep export --format npz`, for
`sac` and for `iterative-sac` with its default settings.
The column median_us is microseconds a call; with --processor of processor time, which is what a call costs on a machine
that others use too.
"""

from __future__ import annotations

import functools as ft
import time

import sheet
from contenders import PEERS, estep_choose, estep_exported, estep_policy, peer_choose, peer_policy
from race import Clock, Contender, contender

ROWS = ("sac", "iterative-sac")


def contenders(core: int | None, clock: Clock) -> list[Contender]:
    """Everyone."""
    return [
        contender(name, loop, 100, core, clock)
        for name, loop in {
            **{f"estep {row} loop": ft.partial(estep_choose, row) for row in ROWS},
            **{f"{library} loop": ft.partial(peer_choose, library) for library in PEERS},
            **{f"estep {row} policy": ft.partial(estep_policy, row) for row in ROWS},
            **{f"estep {row} exported": ft.partial(estep_exported, row) for row in ROWS},
            **{f"{library} policy": ft.partial(peer_policy, library) for library in PEERS},
        }.items()
    ]


def main() -> None:
    made = sheet.pinnable(sheet.race_parser(__file__, __doc__, 15, 1.0, "sbx-rl loop"))
    made.add_argument("--processor", action="store_true", help="count processor time instead of time")
    args = made.parse_args()
    clock, unit = (time.process_time, "calls by processor time") if args.processor else (time.perf_counter, "calls")
    sheet.run(args, unit, contenders(args.pin, clock))


if __name__ == "__main__":
    main()
