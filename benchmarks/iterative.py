"""What does iterative inference cost: an update of iterative SAC by iterations and draws, and acting?

In one process, windows in turn: `Trainer.update_block` (default block, sampling included) for SAC and for every cell
of iterations x samples (2 samples are one antithetic pair), and for the cheap forms of 2 x 2: direct start, kept λ
(chain), and policy loss on half of the rows; every product of matrices that these updates consist of,
alone, which adds up to the floor; and acting in one state by `Trainer.choose` (default act_samples). flops.py has the
formula.

Columns of a cell: ms, of one update or one act, best and median; gflop by the formula, and as counted in the traced
program; floor_ms, the sum of the products' times, best and median; and floor / time, of the bests and of the medians.
Rows of kind "product" say how fast this machine does each shape; their gflop is that of one product.
"""

from __future__ import annotations

import argparse
import functools as ft
import statistics
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import flops
import sheet
from contenders import BATCH, HIDDEN, WARM, estep_trainer
from race import Worker, race_here

BLOCK = 8
ITERATIONS, SAMPLES = (1, 2, 5, 10), (1, 2, 10)
FORMS: dict[str, dict[str, Any]] = {
    "2 x 2 direct start": {"direct_start": True},
    "2 x 2 chain": {"persist": True},
    "2 x 2 chain half": {"persist": True, "inference_fraction": 0.5},
    "2 x 2 chain direct start half": {
        "persist": True,
        "inference_fraction": 0.5,
        "direct_start": True,
        "restart_probability": 0.5,
    },
}
SHORT_S = 0.25
"""The longest window of a single product or of acting."""


def rows(iterations: Sequence[int], samples: Sequence[int]) -> dict[str, Any]:
    """SAC, and the cells of the grid."""
    from forms import iterative_sac

    from estep.algorithms import SAC

    cells = {f"{n} x {m}": iterative_sac(n, m, hidden_sizes=HIDDEN) for n in iterations for m in samples}
    forms = {name: iterative_sac(2, 2, hidden_sizes=HIDDEN, **form) for name, form in FORMS.items()}
    return {"sac": SAC(hidden_sizes=HIDDEN), **cells, **forms}


def updating(trainer: Any) -> Callable[[], int]:
    """A block of updates as a blocking call."""
    import jax

    def work() -> int:
        trainer.update_block()
        jax.block_until_ready(trainer.agent)
        return BLOCK

    return work


def choosing(trainer: Any) -> Callable[[], int]:
    """An action as a blocking call."""

    def work() -> int:
        trainer.choose()
        return 1

    return work


def counted(row: Any, trainer: Any) -> float:
    """Operations of one update, from its traced program."""
    import jax
    import numpy as np

    from estep.core.em import update
    from estep.core.keys import make_key

    batch = trainer.replay.sample(0, 0, (BATCH,))
    batch = jax.tree.map(lambda leaf: np.asarray(leaf)[:, None], batch)
    return float(flops.traced(jax.make_jaxpr(update)(trainer.agent, batch, make_key(0)).jaxpr))


def measure(args: argparse.Namespace, say: Callable[[str], None]) -> list[dict[str, str]]:
    """Every row of the CSV."""
    agents = rows(args.iterations, args.samples)
    trainers = {name: estep_trainer(row, BLOCK, WARM) for name, row in agents.items()}
    sizes = next(iter(trainers.values())).env.spec
    products = {name: flops.of(row, BATCH, sizes.observation, sizes.action) for name, row in agents.items()}
    trace = {name: counted(row, trainers[name]) for name, row in agents.items()}
    # one cell of each number of iterations acts: samples of training play no part in it
    acts = {name: f"{args.samples[0]}" for name in agents if name == "sac" or name.endswith(f" x {args.samples[0]}")}
    short = min(SHORT_S, args.seconds)
    works: dict[Any, tuple[Callable[[], int], float]] = {}
    for name, trainer in trainers.items():
        works["update", name] = updating(trainer), args.seconds
    for name in acts:
        works["act", name] = choosing(trainers[name]), short
    for shape in sorted({shape for found in products.values() for shape in found}):
        works["product", shape] = flops.product_work(shape), short
    rates = race_here(works, args.rounds, say)
    best = {key: 1.0 / max(found) for key, found in rates.items()}
    median = {key: 1.0 / statistics.median(found) for key, found in rates.items()}
    lines = []
    for kind, name in rates:
        line = {"kind": kind, "name": label(name), "rounds": str(args.rounds), "windows_s": f"{works[kind, name][1]:g}"}
        line |= {"best_ms": ms(best[kind, name]), "median_ms": ms(median[kind, name])}
        line |= dict.fromkeys(("gflop", "traced_gflop", "floor_best_ms", "floor_median_ms"), "")
        line |= dict.fromkeys(("of_floor_best", "of_floor_median", "gflop_per_s"), "")
        if kind == "update":
            line |= against_floor(products[name], best, median, (best[kind, name], median[kind, name]))
            line["traced_gflop"] = f"{trace[name] / 1e9:.4f}"
        if kind == "product":
            operations = 2 * name[0] * name[1] * name[2]
            line |= {"gflop": f"{operations / 1e9:.6f}", "gflop_per_s": f"{operations / best[kind, name] / 1e9:.1f}"}
        lines.append({**line, "rates": " ".join(f"{rate:.4g}" for rate in rates[kind, name])})
    return lines


def against_floor(
    products: flops.Products, best: dict[Any, float], median: dict[Any, float], took: tuple[float, float]
) -> dict[str, str]:
    """Work and floor of an update that took (best, median) seconds."""
    floors = [sum(count * of["product", shape] for shape, count in products.items()) for of in (best, median)]
    work = flops.flop(products)
    return {
        "gflop": f"{work / 1e9:.4f}",
        "gflop_per_s": f"{work / took[0] / 1e9:.1f}",
        "floor_best_ms": ms(floors[0]),
        "floor_median_ms": ms(floors[1]),
        "of_floor_best": f"{floors[0] / took[0]:.3f}",
        "of_floor_median": f"{floors[1] / took[1]:.3f}",
    }


def task(args: argparse.Namespace, connection: Connection) -> None:
    """Measure in a process of its own: sends where it stands as text, then the rows."""
    connection.send(measure(args, connection.send))


def label(name: Any) -> str:
    """A cell's name, or a product's shape."""
    return name if isinstance(name, str) else " ".join(map(str, name))


def ms(seconds: float) -> str:
    """Milliseconds."""
    return f"{1e3 * seconds:.4g}"


def main() -> None:
    parser = sheet.parser(__file__, __doc__)
    parser.add_argument("--rounds", type=int, default=9, help="windows of each program (9)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of an update's window, one block at least")
    parser.add_argument("--iterations", type=int, nargs="+", default=list(ITERATIONS))
    parser.add_argument("--samples", type=int, nargs="+", default=list(SAMPLES))
    parser.add_argument("--pin", type=int, metavar="CORE", help="pin to this core (none)")
    args = parser.parse_args()
    here = sheet.machine()
    core = "" if args.pin is None else str(args.pin)
    with Worker(ft.partial(task, args), None if args.pin is None else frozenset({args.pin})) as worker:
        while isinstance(lines := worker.answer(), str):
            print(lines, flush=True)
    found = [{"core": core, **line} for line in lines]
    sheet.write(args.out, found, here)
    columns = ("kind", "name", "best_ms", "median_ms", "gflop", "traced_gflop", "gflop_per_s")
    sheet.show(found, (*columns, "floor_best_ms", "of_floor_best", "of_floor_median"))


if __name__ == "__main__":
    main()
