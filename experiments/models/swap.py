"""How much each iteration improves V, on returns of imagined steps and on the critic, for networks trained on each.

An estimate that a run did not train on is made of its own critic and model: so neither network nor estimate is trained
again. Run as

    python experiments/models/swap.py results/models RUN RUN ...
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp

from estep.core.agent import Agent, as_it_is
from estep.inference.starts import start_of
from estep.instruments import states
from estep.instruments.improvement import improvement
from estep.likelihoods.imagined import Expand, Returns, measured
from estep.policy.actor import INSPECT, key_of, scale
from estep.policy.policy import load
from estep.runs import tables

STATES, ITERATIONS, HORIZON = 128, 10, 2


class Swapped(NamedTuple):
    """V(λ_k) - V(λ_0) over states of a run's replay, with a 95 % interval."""

    trained_on: str
    measured_on: str
    seed: int
    iteration: int
    mean: float
    low: float
    high: float


def on(estimate: str, agent: Agent, gamma: float) -> Agent:
    """The agent whose inference sees this estimate of Q, with the same random numbers at every call."""
    returns = Returns(HORIZON, gamma)
    imagined = replace(agent, view=Expand(returns), targeting=start_of)
    return measured(imagined) if estimate == "imagined steps" else replace(agent, view=as_it_is)


def swapped(run: Path) -> list[Swapped]:
    """The rows of one run."""
    here = load(run, "latest")
    row, seed = here.recipe.algorithm, here.recipe.run.seed
    obs = scale(jnp.asarray(states.recent_states(here, "latest", STATES)), here.scaling)
    trained = "imagined steps" if row.horizon else "critic"
    return [
        Swapped(trained, estimate, seed, *point)
        for estimate in ("critic", "imagined steps")
        for point in improvement(on(estimate, here.agent, row.gamma), obs, key_of(seed, INSPECT), ITERATIONS)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    args = parser.parse_args()
    rows = [row for run in args.runs for row in swapped(run)]
    tables.write(args.out / "swap.csv", Swapped._fields, rows)
    for row in rows:
        print(*row)


if __name__ == "__main__":
    main()
