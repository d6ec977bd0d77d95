"""How many environment steps a second: in one process, in worker processes, and by EnvPool?

Each contender steps --num-envs environments by random actions, without a policy and without learning, all that estep
does around a step included: checks, seeds, records of episodes. `one process` is --env-workers 0. `envpool` is left out
where the package is missing, and on the environment of `waiting.py`, whose steps wait for 10 ms.
"""

from __future__ import annotations

import argparse
import functools as ft
import importlib.util
from typing import Any

import numpy as np
import race
import sheet

ENVS = ("HalfCheetah-v5", "Humanoid-v5", "waiting")
ACTIONS = 64
"""Batches of actions, drawn before the first window."""


def loop(name: str, workers: int, count: int, gate: race.Gate) -> None:
    """Step environments for ever."""
    import waiting

    from estep.envs.elsewhere.pool import Pool
    from estep.envs.gymnasium import make

    source: Any = waiting.Waits if name == "waiting" else name
    env = make(source, num_envs=count, pool=Pool(workers, 60.0) if workers else None)
    drawn = np.random.default_rng(0).uniform(-1, 1, (ACTIONS, count, env.spec.action_dim)).astype(np.float32)
    env.reset()
    while True:
        for action in drawn:
            env.step(action)
            env.finished()
            gate(count)


def contenders(name: str, count: int, numbers: list[int]) -> list[race.Contender]:
    """One process, each number of workers, and EnvPool."""
    made = [race.contender("one process", ft.partial(loop, name, 0, count))]
    made += [race.contender(f"{n} workers", ft.partial(loop, name, n, count)) for n in numbers]
    if name != "waiting" and importlib.util.find_spec("envpool"):
        made.append(race.contender("envpool", ft.partial(loop, f"envpool:{name}", 0, count)))
    return made


def main() -> None:
    parser = sheet.parser(__file__, __doc__)
    parser.add_argument("--envs", nargs="+", choices=ENVS, default=list(ENVS), help="environments (all)")
    parser.add_argument("--num-envs", type=int, default=16, help="environments side by side (16)")
    parser.add_argument("--workers", type=int, nargs="+", default=[2], help="numbers of worker processes (2)")
    parser.add_argument("--rounds", type=int, default=8, help="windows of each contender (8)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a window (2)")
    args: argparse.Namespace = parser.parse_args()
    for name in args.envs:
        rates = race.race(contenders(name, args.num_envs, args.workers), args.rounds, args.seconds)
        fixed = {"unit": "environment steps/s", "num_envs": str(args.num_envs), "seconds": f"{args.seconds:g}"}
        base = rates["one process"]
        rows = [{"env": name, "contender": one, **fixed, **race.summary(got, base)} for one, got in rates.items()]
        sheet.write(args.out, rows, sheet.machine())
        sheet.show(rows, ("env", "contender", "median", "lowest", "highest", "ratio_of_medians", "median_of_ratios"))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
