"""How much of the training on HalfCheetah-v5 an agent spends on its back, where it can slide but not run.

The states are those of the replay, which must hold every step of the run. Run as

    python experiments/models_mujoco/gaits.py results/models_mujoco RUN ...
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from upright import ANGLE

from estep.instruments.states import replay_of
from estep.policy.policy import load
from estep.runs import tables

EVERY = 10_000


class Gait(NamedTuple):
    """Some steps of a run."""

    env: str
    label: str
    """The name of these runs in run.sh."""
    seed: int
    first_step: int
    last_step: int
    on_back: float
    """Share of the states in which the body is turned by more than a quarter of a turn."""


def gaits(run: Path) -> Iterator[Gait]:
    """The shares of a run, in the order of its steps."""
    env, label, seed = (run.parents[i].name for i in (4, 3, 2))
    trained = load(run, "latest", allow_import=True)
    states = replay_of(trained, "latest").latest(trained.env_steps)
    on_back = np.cos(states[:, ANGLE]) < 0.0
    for first in range(0, len(states), EVERY):
        share = float(on_back[first : first + EVERY].mean())
        yield Gait(env, label, int(seed), first, min(first + EVERY, len(states)), share)


def main() -> None:
    """Write gaits.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the table")
    parser.add_argument("runs", type=Path, nargs="+", help="runs on HalfCheetah-v5 that keep all their steps")
    given = parser.parse_args()
    tables.write(given.out / "gaits.csv", Gait._fields, [gait for run in given.runs for gait in gaits(run)])


if __name__ == "__main__":
    main()
