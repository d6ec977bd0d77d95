"""What one critic earns by each inference optimiser, beside the V that each reaches on it.

For every run: the policy of its latest checkpoint as it acts by each optimiser, in the same episodes, by the
deterministic action and by draws; and V(s; q) in the latest states of its replay, with common random numbers, less that
of the optimiser that the run acts with. An optimiser that the run has no network for is left out. Run as

    python benchmarks/earned.py results/earned RUN RUN ...
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from estep.cli.optimisers import Effort, chosen
from estep.core.agent import Agent
from estep.errors import UsageError
from estep.experiment import judge, policy, sheet
from estep.experiment.device import INSPECT, key_of, scale
from estep.experiment.run import QUIET
from estep.instruments import states
from estep.instruments.compared import Rung, asked, climbs
from estep.plots.compare import newest, own_changes, told

WAYS = {
    "direct": ("direct", Effort()),
    "iterative 1": ("iterative", Effort(1)),
    "iterative 2": ("iterative", Effort(2)),
    "iterative 5": ("iterative", Effort(5)),
    "iterative 20": ("iterative", Effort(20)),
    "best of 8, 5 each": ("iterative", Effort(5, restarts=8)),
    "then Adam 10": ("semi-amortised", Effort(10)),
    "Adam 100": ("gradient", Effort(100)),
}
"""Names in the figure, and what is asked for."""
STATES = 256


class Earned(NamedTuple):
    """One run by one optimiser."""

    env: str
    algorithm: str
    changes: str
    seed: int
    env_steps: int
    way: str
    value: float
    """Mean of V, less that of the run's own way."""
    mean: float
    """Return of the deterministic policy."""
    std: float
    drawn: float
    """Return of actions drawn from the posterior."""
    drawn_std: float
    episodes: int


def ways(agent: Agent) -> dict[str, Agent]:
    """The agent by every optimiser that it has what is needed for."""
    found = {}
    for name, (optimiser, effort) in WAYS.items():
        try:
            found[name] = chosen(optimiser, effort)(agent)
        except UsageError:
            continue
    return found


def earned(run: Path, episodes: int, seed: int) -> list[Earned]:
    """The rows of one run."""
    here = policy.load(run, "latest")
    agent = here.agent
    obs = scale(jnp.asarray(states.recorded(here, "latest", STATES)), here.scaling)
    own = agent.acting(agent.inference.model)
    inferences = {name: changed.inference.model for name, changed in ways(agent).items()}
    rungs = [Rung(name, 0, inference, *asked(inference)) for name, inference in {"own": own, **inferences}.items()]
    values = [climb.value.mean() for climb in climbs(agent, obs, key_of(seed, INSPECT), rungs)]
    about, rows = told(here.run_dir), []
    for name, value in zip(inferences, values[1:], strict=True):
        change = chosen(*WAYS[name])
        scores = []
        for deterministic in (True, False):
            trial = judge.Trial(episodes, seed, deterministic=deterministic)
            found = judge.evaluate_run(here.run_dir, checkpoint="latest", trial=trial, change=change, job=QUIET)
            scores += found.evaluation[:2]
        rows.append(Earned(*about, here.env_steps, name, float(value - values[0]), *scores, episodes))
        print(*rows[-1], flush=True)
    return rows


def draw(rows: Sequence[Earned], path: Path) -> None:
    """A panel for each environment: return by optimiser, a line for each run."""
    envs = list(dict.fromkeys(row.env for row in rows))
    figure = Figure(figsize=(4.2 * len(envs), 4.4), layout="constrained")
    for axes, env in zip(figure.subplots(1, len(envs), squeeze=False)[0], envs, strict=True):
        here = [row for row in rows if row.env == env]
        order = [name for name in WAYS if any(row.way == name for row in here)]
        for run in dict.fromkeys(row[:4] for row in here):
            mine = [row for row in here if row[:4] == run]
            own = own_changes(run[1], run[2], (row.changes for row in here))
            error = [row.std / np.sqrt(row.episodes) for row in mine]
            label = " ".join([run[1], *own, f"seed {run[3]}"])
            axes.errorbar(
                [order.index(row.way) for row in mine], [row.mean for row in mine], error, marker="o", label=label
            )
        axes.set_xticks(range(len(order)), order, rotation=60, ha="right")
        axes.set(title=env, ylabel="return of the deterministic policy")
        axes.legend(fontsize="x-small", frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the episodes and of all draws")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    before = args.out / "earned.csv"
    known = sheet.read(before, Earned) if before.is_file() else []
    found = newest([known, *(earned(run, args.episodes, args.seed) for run in args.runs)])
    sheet.write(before, Earned._fields, found)
    draw(found, args.out / "earned.png")


if __name__ == "__main__":
    main()
