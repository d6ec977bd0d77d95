"""How far the λ of next states is that replay keeps at the end of runs, and what the critic learns from.

It writes kept.csv, a line a run. Run as

    python experiments/likelihoods/kept.py results/likelihoods/chain RUN ...
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from estep.e_steps.chain import LARGEST, NEXT_LAM, VALID
from estep.instruments.states import replay_of
from estep.policy import policy
from estep.policy.policy import Policy
from estep.runs import lines, tables
from estep.runs.folder import METRICS

ROWS = 100_000
"""Steps drawn from each replay, with repeats."""
LATE = 4
"""Target and value are means over the last 1/LATE of the lines of metrics."""


class Kept(NamedTuple):
    """One run."""

    env: str
    seed: int
    env_steps: int
    target: float
    value: float
    steps: int
    """How many steps of its replay were looked at."""
    far: float
    """The fraction of them whose λ of the next state is beyond what replay keeps since."""
    largest: float
    """The largest |λ| among them."""


def stored(trained: Policy) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Next states [n, o] of the replay of a run, and the λ [n, l] that it keeps for them."""
    replay = replay_of(trained, "latest")
    steps = replay.read(np.unique(replay.draw(0, 0, (ROWS,))))
    memo = cast(Mapping[str, npt.NDArray[np.float32]], steps.memo)
    there = memo[VALID].reshape(-1, 2)[:, 1] == 1
    obs = np.asarray(steps.next_obs, np.float32)
    return obs.reshape(len(there), -1)[there], memo[NEXT_LAM].reshape(len(there), -1)[there]


def kept(run: Path) -> Kept:
    """What replay and metrics of a run say."""
    trained = policy.load(run, "latest")
    lam = np.abs(stored(trained)[1]).max(-1)
    found = [line for line in lines.records(run / METRICS) if "critic/target" in line]
    late = found[-max(len(found) // LATE, 1) :]
    target, value = (float(np.mean([line[name] for line in late])) for name in ("critic/target", "critic/value"))
    recipe = trained.recipe
    far, largest = float((lam > LARGEST).mean()), float(lam.max())
    return Kept(str(recipe.env), recipe.run.seed, found[-1]["env_steps"], target, value, len(lam), far, largest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of the table")
    parser.add_argument("runs", type=Path, nargs="+", help="run folders of iterative-sac")
    parser.add_argument("--name", default="kept", help="the name of the table")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tables.write(args.out / f"{args.name}.csv", Kept._fields, sorted(map(kept, args.runs)))


if __name__ == "__main__":
    main()
