"""What do several tasks cost?

Three ratios, each of processor time, of programs that take turns in one process:

    tasks    a transition with its update, three tasks against three environments of one task (goal: 1.05)
    prior    an update of an algorithm with a prior that two tasks share, against sac with two tasks (goal: 1.3)
    heads    an update of distral with 10 tasks, --heads own against --heads shared (goal: 1.5)

A task is a speed of estep/HalfCheetahVelocity-v0; networks and batches are of the default size, and replay holds 2,400
random steps. A ratio is the median over rounds of that of two programs next to each other, so that what else the
machine does counts for both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import sheet

ENV = "estep/HalfCheetahVelocity-v0"
FILLED, BLOCK, BATCH = 2_400, 24, 240
"""The block and the batch are multiples of 3, and the batch of 10."""


class Program(NamedTuple):
    """What is timed."""

    algorithm: str
    settings: Mapping[str, Any]
    tasks: int
    num_envs: int
    acts: bool = False
    """Whether it takes the steps that it learns from, one for each update."""


TD0 = {"target": "td0", "num_critics": 2}
SAC, DISTRAL = Program("sac", {}, 2, 1), Program("distral", {}, 10, 1)
QUESTIONS: Mapping[str, tuple[float, Program, Mapping[str, Program]]] = {
    "tasks": (1.05, Program("sac", {}, 1, 3, True), {"three tasks": Program("sac", {}, 3, 1, True)}),
    "prior": (
        1.3,
        SAC,
        {
            "distral": DISTRAL._replace(tasks=2),
            "default-policy td0": SAC._replace(algorithm="default-policy", settings=TD0),
            "default-policy td0, one sample": SAC._replace(algorithm="default-policy", settings=TD0 | {"samples": 1}),
        },
    ),
    "heads": (1.5, DISTRAL, {"own heads": DISTRAL._replace(settings={"heads": "own"})}),
}


def trainer_of(program: Program) -> Any:
    """A trainer whose replay holds random steps."""
    from estep.algorithms import ALGORITHMS
    from estep.envs.tasks.sources import read_envs
    from estep.policy.environments import make_env
    from estep.policy.job import QUIET
    from estep.settings.run import RunConfig
    from estep.training.trainer import Trainer

    config = RunConfig(
        steps=1_000_000,
        warmup_steps=FILLED,
        updates_per_call=BLOCK,
        batch_size=BATCH,
        num_envs=program.num_envs,
        replay_size=100_000,
    )
    envs = read_envs([f"{ENV}?velocity={1 + i}" for i in range(program.tasks)])
    trainer = Trainer(
        ALGORITHMS[program.algorithm](**program.settings), make_env(envs, config, QUIET, 0), config, print
    )
    trainer.begin()
    while trainer.counts.env_steps < FILLED:
        trainer.step()
    return trainer


def timed(program: Program, trainer: Any, blocks: int) -> float:
    """Processor seconds of an update, with its transition where the program acts."""
    import jax

    began = time.process_time()
    for _ in range(blocks):
        for _ in range(BLOCK // (program.tasks * program.num_envs) if program.acts else 0):
            trainer.step()
        trainer.update_block()
    jax.block_until_ready(trainer.agent)
    return (time.process_time() - began) / (blocks * BLOCK)


def rows(question: str, rounds: int, blocks: int) -> Iterator[dict[str, str]]:
    """One row for each program that a question compares, as soon as it is there."""
    goal, base, others = QUESTIONS[question]
    first = trainer_of(base)
    timed(base, first, 1)  # compiles
    for name, program in others.items():
        trainer = trainer_of(program)
        timed(program, trainer, 1)
        pairs = [(timed(base, first, blocks), timed(program, trainer, blocks)) for _ in range(rounds)]
        ratios = [mine / other for other, mine in pairs]
        figures = {
            "base_ms": 1e3 * statistics.median(pair[0] for pair in pairs),
            "ms": 1e3 * statistics.median(pair[1] for pair in pairs),
            "ratio": statistics.median(ratios),
            "least_ratio": min(ratios),
            "greatest_ratio": max(ratios),
            "goal": goal,
        }
        row = {"question": question, "program": name, "rounds": str(rounds), "updates": str(blocks * BLOCK)}
        row |= {name: f"{value:.4g}" for name, value in figures.items()}
        print(" ".join(row.values()), flush=True)
        yield row


def main() -> None:
    parser = sheet.pinnable(sheet.parser(__file__, __doc__))
    parser.add_argument("--only", nargs="+", choices=QUESTIONS, default=list(QUESTIONS), help="questions (all)")
    parser.add_argument("--rounds", type=int, default=12, help="pairs of windows (12)")
    parser.add_argument("--blocks", type=int, default=3, help=f"blocks of {BLOCK} updates in a window (3)")
    args: argparse.Namespace = parser.parse_args()
    if args.pin is not None:
        os.sched_setaffinity(0, {args.pin})  # before JAX makes its threads
    core = "" if args.pin is None else str(args.pin)
    for question in args.only:
        for row in rows(question, args.rounds, args.blocks):
            sheet.write(args.out, [{**row, "core": core}], sheet.machine())
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
