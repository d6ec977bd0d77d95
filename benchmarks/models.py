"""What do a learned model and imagined steps cost beside SAC, in an update and to compile?

estep's `Trainer.update_block` in blocks of 8, in windows in turn: `sac`, and `mve` with h imagined steps by one member
of five, or by all. Replay holds 4,000 random steps of HalfCheetah-v5. With h = 2 and one member an update is to take at
most 3 times as long as that of `sac`.

With --cost no windows are taken. The table then has XLA's operations of one update, whose goal is 2.7 times those of
`sac`, the processor time of its first compilation, whose goal is 4 times, and the bytes of a step in replay.
"""

from __future__ import annotations

import argparse
import functools as ft
import time
from collections.abc import Iterator, Mapping
from typing import Any

import sheet
from contenders import BATCH, estep_row_updates
from race import Contender, contender

BLOCK = 8
PLAIN = "sac"
ROWS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    PLAIN: ("sac", {}),
    "mve 0": ("mve", {"horizon": 0}),
    "mve 1": ("mve", {"horizon": 1}),
    "mve 2": ("mve", {"horizon": 2}),
    "mve 3": ("mve", {"horizon": 3}),
    "mve 2 every other": ("mve", {"horizon": 2, "model_every": 2}),
    "mve 2 all": ("mve", {"horizon": 2, "members_used": 5}),
    "smcp": ("smcp", {}),
    "mpo": ("mpo", {}),
    "pp-smc": ("pp-smc", {}),
}


def contenders(core: int | None) -> list[Contender]:
    """Everyone that has no plans in replay; warm-up is three calls."""
    timed = {name: row for name, row in ROWS.items() if row[0] in ("sac", "mve")}
    loops = {name: ft.partial(estep_row_updates, *row, BLOCK) for name, row in timed.items()}
    return [contender(name, loop, 3 * BLOCK, core) for name, loop in loops.items()]


def cost(name: str, settings: Mapping[str, Any]) -> tuple[float, float, int]:
    """XLA's operations of an update, the seconds of processor time to trace and compile it, and the bytes of a step."""
    import jax
    import jax.numpy as jnp

    from estep import Spec, make_key
    from estep.algorithms import ALGORITHMS
    from estep.core.em import update
    from estep.core.types import Transition
    from estep.policy.actor import memo_widths

    spec, key = Spec(17, 6), make_key(0)
    agent = jax.eval_shape(lambda: ALGORITHMS[name](**settings).init(spec, key))
    widths, steps = memo_widths(agent), (BATCH, agent.length)
    obs, action, number = (jnp.zeros((*steps, *size)) for size in ((spec.obs_dim,), (spec.action_dim,), ()))
    memo = {name: jnp.zeros((*steps, width)) for name, width in widths.items()}
    jax.clear_caches()
    began = time.process_time()
    compiled = jax.jit(update).lower(agent, Transition(obs, action, number, number, obs, number, memo), key).compile()
    took = time.process_time() - began
    row = 4 * (2 * spec.obs_dim + spec.action_dim + 2 + sum(widths.values()))
    return float(compiled.cost_analysis()["flops"]), took, row


def costs(names: list[str]) -> Iterator[dict[str, str]]:
    """One row for each contender, with ratios to the first."""
    import jax

    jax.config.update("jax_enable_compilation_cache", False)
    cost(*ROWS[PLAIN])  # what the first compilation of a process does besides
    found = {name: cost(*ROWS[name]) for name in names}
    flop, seconds, _ = found[PLAIN]
    for name, (operations, took, size) in found.items():
        figures = {"mflop": operations / 1e6, "flop_ratio": operations / flop, "compile_cpu_s": took}
        figures |= {"compile_ratio": took / seconds, "bytes_of_a_step": size}
        yield {"contender": name} | {column: f"{value:.4g}" for column, value in figures.items()}


def main() -> None:
    parser = sheet.pinnable(sheet.race_parser(__file__, __doc__, 15, 4.0, PLAIN))
    parser.add_argument("--cost", action="store_true", help="count operations and time compilations instead")
    args: argparse.Namespace = parser.parse_args()
    if not args.cost:
        sheet.run(args, "updates", contenders(args.pin))
        return
    rows = list(costs(list(args.only or ROWS)))
    out = args.out.with_name(args.out.name.replace("models", "models_cost"))
    sheet.write(out, rows, sheet.machine())
    sheet.show(rows, list(rows[0]))


if __name__ == "__main__":
    main()
