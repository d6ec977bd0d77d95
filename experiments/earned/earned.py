"""What one critic earns by each inference optimiser, beside the V that each reaches on it.

For every run: the policy of its latest checkpoint as it acts by each optimiser, in the same episodes, by the
deterministic action and by draws; and V(s; q) in the latest states of its replay, with common random numbers, less that
of the optimiser that the run acts with. An optimiser that the run has no network for is left out. Run as

    python experiments/earned/earned.py results/earned RUN RUN ...
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from estep.errors import UsageError
from estep.inference.named import InferenceSettings, chosen
from estep.instruments import states
from estep.instruments.interval import interval_of_moments, over_tasks
from estep.instruments.optimisers import Candidate, run_candidates
from estep.plots import labels
from estep.policy.actor import INSPECT, key_of, scale
from estep.policy.policy import Policy, load
from estep.runs import tables

WAYS = {
    "direct": ("direct", InferenceSettings()),
    "iterative 1": ("iterative", InferenceSettings(1)),
    "iterative 2": ("iterative", InferenceSettings(2)),
    "iterative 5": ("iterative", InferenceSettings(5)),
    "iterative 20": ("iterative", InferenceSettings(20)),
    "best of 8, 5 each": ("iterative", InferenceSettings(5, restarts=8)),
    "then Adam 10": ("semi-amortised", InferenceSettings(10)),
    "Adam 100": ("gradient", InferenceSettings(100)),
}
"""Names in the figure, and what is asked for."""
STATES = 256
"""In which V is measured."""


class Earned(NamedTuple):
    """One run by one optimiser."""

    env: str
    algorithm: str
    settings: str
    """All settings of the run as JSON."""
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


def ways(here: Policy, wanted: Sequence[str]) -> dict[str, Policy]:
    """The policy by every wanted optimiser that it has what is needed for."""
    found = {}
    for name in wanted:
        try:
            found[name] = here.changed(chosen(*WAYS[name]))
        except UsageError:
            continue
    return found


def earned(run: Path, episodes: int, seed: int, wanted: Sequence[str]) -> list[Earned]:
    """The rows of one run."""
    here = load(run, "latest", allow_import=True)
    agent, found = here.agent, ways(here, wanted)
    obs = scale(jnp.asarray(states.recent_states(here, "latest", STATES)), here.scaling)
    inferences = {"own": agent.acting(agent.inference.model)}
    inferences |= {name: policy.agent.inference.model for name, policy in found.items()}
    chosen = [Candidate(name, 0, inference, *inference.evaluations()) for name, inference in inferences.items()]
    own, *values = (outcome.value.mean() for outcome in run_candidates(agent, obs, key_of(seed, INSPECT), chosen))
    about, rows = labels.run_label(here.run_dir), []
    for (name, policy), value in zip(found.items(), values, strict=True):
        mode, drawn = (policy.evaluate(episodes, seed=seed, deterministic=each) for each in (True, False))
        scores = mode.mean, mode.std, drawn.mean, drawn.std
        rows.append(Earned(*about, here.env_steps, name, float(value - own), *scores, episodes))
        print(*rows[-1], flush=True)
    return rows


class Summary(NamedTuple):
    """One optimiser over all runs, beside the reference in the same run."""

    way: str
    runs: int
    mean: float
    """Geometric mean of the ratios of returns, deterministic."""
    mean_low: float
    """Lower limit of its 95 % interval over the runs of the environments."""
    mean_high: float
    drawn: float
    """The same of drawn actions."""
    drawn_low: float
    drawn_high: float
    above: int
    """Runs in which the deterministic return is higher."""
    value: float
    """Mean difference of V."""


def summary(rows: Sequence[Earned], reference: str) -> list[Summary]:
    """Every optimiser over the runs that have it and the reference."""
    bases = {row[:4]: row for row in rows if row.way == reference}
    found = []
    for name in WAYS:
        pairs = [(row, bases[row[:4]]) for row in rows if row.way == name and row[:4] in bases]
        if pairs:
            mean, drawn = (_ratio(pairs, kind) for kind in ("mean", "drawn"))
            value = np.mean([row.value - base.value for row, base in pairs])
            above = sum(row.mean > base.mean for row, base in pairs)
            found.append(Summary(name, len(pairs), *mean, *drawn, above, value))
    return found


def _ratio(pairs: Sequence[tuple[Earned, Earned]], kind: str) -> Iterable[float]:
    """The geometric mean of the ratios of returns and its interval, with the environments as tasks."""
    logs: dict[str, list[float]] = {}
    for row, base in pairs:
        logs.setdefault(row.env, []).append(np.log(getattr(row, kind) / getattr(base, kind)))
    return map(float, np.exp(over_tasks(list(logs.values()))))


def draw(rows: Sequence[Earned], path: Path) -> None:
    """A panel for each environment: return by optimiser, a line for each run, with intervals over episodes."""
    envs = list(dict.fromkeys(row.env for row in rows))
    figure = Figure(figsize=(4.2 * len(envs), 4.4), layout="constrained")
    for axes, env in zip(figure.subplots(1, len(envs), squeeze=False)[0], envs, strict=True):
        here = [row for row in rows if row.env == env]
        order = [name for name in WAYS if any(row.way == name for row in here)]
        names = labels.labels((row.algorithm, row.settings) for row in here)
        for run in dict.fromkeys(row[:4] for row in here):
            mine = [row for row in here if row[:4] == run]
            ends = [interval_of_moments(row.mean, row.std, row.episodes) for row in mine]
            error = [end.high - end.mean for end in ends]
            label = f"{names[run[1], run[2]]}, seed {run[3]}"
            axes.errorbar(
                [order.index(row.way) for row in mine], [row.mean for row in mine], error, marker="o", label=label
            )
        axes.set_xticks(range(len(order)), order, rotation=60, ha="right")
        axes.set(title=env, ylabel="return of the deterministic policy\n(95 % interval over episodes)")
        axes.legend(fontsize="x-small", frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the episodes and of all draws")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="optimisers")
    parser.add_argument("--reference", choices=WAYS, default="iterative 5", help="what the summary compares with")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    before = args.out / "earned.csv"
    known = labels.read(before, Earned) if before.is_file() else []
    found = labels.newest([known, *(earned(run, args.episodes, args.seed, args.ways) for run in args.runs)])
    tables.write(before, Earned._fields, found)
    tables.write(args.out / "summary.csv", Summary._fields, summary(found, args.reference))
    draw(found, args.out / "earned.png")


if __name__ == "__main__":
    main()
