"""How many environment steps a second in training, one update for each?

SAC on one HalfCheetah-v5: the whole of `estep.train` (logging on, evaluations and checkpoints off) with blocks of 8
updates, the default, and strictly alternating (block 1), against `SAC.learn` of sbx-rl and stable-baselines3. Windows
in the steady state, after 1,000 random steps and compilation.
"""

from __future__ import annotations

import functools as ft

import sheet
from contenders import PEERS, WARM, estep_loop, peer_loop
from race import Contender, contender

AFTER = 64
"""Steps with updates before the first window."""


def contenders(core: int | None) -> list[Contender]:
    """Everyone."""
    ours = {f"estep block {block}": ft.partial(estep_loop, block, 0) for block in (8, 1)}
    theirs = {library: ft.partial(peer_loop, library) for library in PEERS}
    return [contender(name, loop, WARM + AFTER, core) for name, loop in {**ours, **theirs}.items()]


def main() -> None:
    args = sheet.pinnable(sheet.race_parser(__file__, __doc__, 15, 6.0, "sbx-rl")).parse_args()
    sheet.run(args, "env steps", contenders(args.pin))


if __name__ == "__main__":
    main()
