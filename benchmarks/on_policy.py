"""How many environment steps a second on policy, learning included, and what do more environments bring?

`vmpo` and `soft-pg` by the whole of `estep.train` (logging on, evaluations and checkpoints off) against PPO of
stable-baselines3, on HalfCheetah-v5 with 8 environments, policy and value of two hidden layers of 64 each, float32. All
learn from 2,048 steps, of all environments together, and then drop them, in batches of 64 steps. vmpo and PPO pass over
them 10 times, 320 updates; soft-pg, which has no correction for steps of another policy, and the second PPO once, 32
updates. estep's batches are two sequences of 32 steps; PPO's are steps at random, with their advantages computed once
before.

A window begins and ends with a rollout learned from, so it holds whole cycles. With --table vmpo and PPO by the number
of environments instead.
"""

from __future__ import annotations

import argparse
import functools as ft
from collections.abc import Sequence

import sheet
from contenders import EPOCHS, ROLLOUT, estep_rollouts, peer_rollouts
from race import Contender, Loop, contender

ENVS = 8
TABLE = (1, 2, 4, 8, 16)
VMPO = {"epochs": EPOCHS}


def contenders(core: int | None) -> list[Contender]:
    """Many passes, and one."""
    return race_of(
        {
            "estep vmpo": ft.partial(estep_rollouts, "vmpo", VMPO, ENVS),
            "stable-baselines3": ft.partial(peer_rollouts, ENVS, EPOCHS),
            "estep soft-pg": ft.partial(estep_rollouts, "soft-pg", {}, ENVS),
            "stable-baselines3 one epoch": ft.partial(peer_rollouts, ENVS, 1),
        },
        core,
    )


def table(core: int | None, numbers: Sequence[int]) -> list[Contender]:
    """Both, by environments."""
    ours = {f"estep vmpo {n} envs": ft.partial(estep_rollouts, "vmpo", VMPO, n) for n in numbers}
    return race_of(ours | {f"stable-baselines3 {n} envs": ft.partial(peer_rollouts, n, EPOCHS) for n in numbers}, core)


def race_of(loops: dict[str, Loop], core: int | None) -> list[Contender]:
    """Warm-up is two rollouts."""
    return [contender(name, loop, 2 * ROLLOUT, core) for name, loop in loops.items()]


def options() -> argparse.Namespace:
    """The baseline is PPO on as many environments."""
    parser = sheet.pinnable(sheet.race_parser(__file__, __doc__, 15, 8.0, "stable-baselines3"))
    parser.add_argument("--table", action="store_true", help=f"by environments: {', '.join(map(str, TABLE))}")
    args = parser.parse_args()
    if args.table and args.baseline == "stable-baselines3":
        args.baseline = f"stable-baselines3 {ENVS} envs"
    return args


def main() -> None:
    args = options()
    sheet.run(args, "env steps", table(args.pin, TABLE) if args.table else contenders(args.pin))


if __name__ == "__main__":
    main()
