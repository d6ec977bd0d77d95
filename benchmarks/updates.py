"""How many SAC updates a second, sampling from replay included?

estep's `Trainer.update_block` (blocks of 8, the default, and of 64) against `SAC.train` of sbx-rl and
stable-baselines3, 64 updates or one in a call. Replay holds 4,000 random steps of HalfCheetah-v5.
"""

from __future__ import annotations

import functools as ft

import sheet
from contenders import CALL, PEERS, estep_updates, peer_updates
from race import Contender, contender


def contenders(core: int | None) -> list[Contender]:
    """Everyone; warm-up is two calls."""
    ours = {f"estep block {block}": (ft.partial(estep_updates, block), block) for block in (8, CALL)}
    theirs = {
        f"{library} {together} a call": (ft.partial(peer_updates, library, together), together)
        for library in PEERS
        for together in (CALL, 1)
    }
    return [contender(name, loop, 3 * units, core) for name, (loop, units) in {**ours, **theirs}.items()]


def main() -> None:
    args = sheet.pinnable(sheet.race_parser(__file__, __doc__, 15, 4.0, f"sbx-rl {CALL} a call")).parse_args()
    sheet.run(args, "updates", contenders(args.pin))


if __name__ == "__main__":
    main()
