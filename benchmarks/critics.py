"""How many SAC updates a second with other networks and losses, sampling from replay included?

estep's `Trainer.update_block` in blocks of 8 with one setting changed at a time, in windows in turn. Replay holds 4,000
random steps of HalfCheetah-v5. A normalised critic is to take at most 1.15 times as long as the default.
"""

from __future__ import annotations

import functools as ft
from collections.abc import Mapping
from typing import Any

import sheet
from contenders import estep_row_updates
from race import Contender, contender

BLOCK = 8
PLAIN = "default"
CRITICS: Mapping[str, Mapping[str, Any]] = {
    PLAIN: {},
    "layer": {"critic_norm": "layer"},
    "layer elu": {"critic_norm": "layer", "critic_activation": "elu"},
    "hl-gauss": {"critic_loss": "hl-gauss"},
    "layer hl-gauss": {"critic_norm": "layer", "critic_loss": "hl-gauss"},
    "simba": {"network": "simba"},
    "simba2 hl-gauss": {"network": "simba2", "critic_loss": "hl-gauss"},
}


def contenders(core: int | None) -> list[Contender]:
    """Everyone; warm-up is three calls."""
    loops = {name: ft.partial(estep_row_updates, "sac", settings, BLOCK) for name, settings in CRITICS.items()}
    return [contender(name, loop, 3 * BLOCK, core) for name, loop in loops.items()]


def main() -> None:
    args = sheet.pinnable(sheet.race_parser(__file__, __doc__, 15, 4.0, PLAIN)).parse_args()
    sheet.run(args, "updates", contenders(args.pin))


if __name__ == "__main__":
    main()
