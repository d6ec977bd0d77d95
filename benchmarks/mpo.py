"""How many MPO updates a second, sampling from replay included, and what do they cost by samples?

estep's `Trainer.update_block` (`mpo`, one-step targets, blocks of 8, the default, and of 64) against a reference that
exists for this comparison alone: MPO in torch, vectorised, after Tonic (fabiopardo/tonic). One update of either does
the same work, on the sizes of HalfCheetah-v5 (17 observations, 6 actions), two hidden layers of 256 in every network,
batches of 256, float32:

- draws 256 transitions from a replay of 4,000 random steps;
- E-step: n actions of the slow policy in each state, their values under the slow critic, softmax weights, the
  temperature by its dual, and the second set of weights that keeps actions in the box;
- M-step: the likelihood of the weighed actions, mean and scale apart, with a KL bound and a multiplier for each of the
  dimensions of both; one Adam step of the policy, one of all multipliers;
- critic: the mean over n actions of the slow policy in each next state, regression, one Adam step;
- hard copies of policy and critic each 100 updates.

On a CPU most of that is the slow critic's second layer, for n x 256 rows in s and as many in s', which either library
does at the machine's speed; the ratio is about the rest.

With --num-critics 2 both take the lower of two critics, in the E-step and in the target. With --table both do it for
several n instead (2 is estep's least: one draw has no weight).
"""

from __future__ import annotations

import argparse
import functools as ft
from collections.abc import Sequence

import sheet
from contenders import CALL, estep_row_updates
from race import Contender, contender
from torch_mpo import updates

SAMPLES = 20
WARM_UP = 16
"""Updates of the reference, which compiles nothing."""
TABLE = (2, 5, 10, 20, 40)


def contenders(critics: int, core: int | None) -> list[Contender]:
    """estep in two blocks, and the reference."""
    ours = {f"estep block {block}": (estep(block, critics, SAMPLES), 3 * block) for block in (8, CALL)}
    both = {**ours, "reference": (ft.partial(updates, critics, SAMPLES), WARM_UP)}
    return [contender(name, loop, warm, core) for name, (loop, warm) in both.items()]


def table(critics: int, core: int | None, samples: Sequence[int]) -> list[Contender]:
    """Both, by samples."""
    ours = {f"estep {n} samples": estep(CALL, critics, n) for n in samples}
    theirs = {f"reference {n} samples": ft.partial(updates, critics, n) for n in samples}
    return [
        *(contender(name, loop, 3 * CALL, core) for name, loop in ours.items()),
        *(contender(name, loop, WARM_UP, core) for name, loop in theirs.items()),
    ]


def estep(block: int, critics: int, samples: int) -> ft.partial[None]:
    """Our loop."""
    settings = {"num_critics": critics, "beta": float(critics - 1), "samples": samples, "target": "td0"}
    return ft.partial(estep_row_updates, "mpo", settings, block)


def options() -> argparse.Namespace:
    """The baseline is the reference, with as many samples."""
    parser = sheet.pinnable(sheet.race_parser(__file__, __doc__, 15, 4.0, "reference"))
    parser.add_argument("--num-critics", type=int, default=1, choices=(1, 2), help="members of the critic ensemble (1)")
    parser.add_argument("--table", action="store_true", help=f"the cost by samples: {', '.join(map(str, TABLE))}")
    args = parser.parse_args()
    if args.table and args.baseline == "reference":
        args.baseline = f"reference {SAMPLES} samples"
    return args


def main() -> None:
    args = options()
    everyone = table(args.num_critics, args.pin, TABLE) if args.table else contenders(args.num_critics, args.pin)
    unit = "updates" if args.num_critics == 1 else "updates with two critics"
    sheet.run(args, unit, everyone)


if __name__ == "__main__":
    main()
