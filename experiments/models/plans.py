"""What plans return beside the policy that proposes them, at a half-trained checkpoint of a run of smcp.

The checkpoint is given, or the one whose policy returns nearest to a given number, in episodes that are not used again.
Then the policy and each planner act by sampled actions in the same episodes, and the particles of each planner are
counted in states of the replay. Run as

    python experiments/models/plans.py results/models RUN
    python experiments/models/plans.py results/models RUN --checkpoint latest --name Hopper-v5
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from estep import make_key
from estep.instruments.improvement import checkpoints
from estep.instruments.interval import interval
from estep.instruments.states import recent_states
from estep.policy.actor import scale
from estep.policy.policy import Policy, load
from estep.runs import tables

HALF_TRAINED = -620.0
"""The return of the policy that is looked for."""
CHOOSE, MEASURE = 0, 1
"""Seeds of the episodes that choose the checkpoint, and of those in which plans are measured."""
SEARCHES: tuple[dict[str, Any], ...] = (
    *({"particles": n, "horizon": h} for n, h in ((32, 3), (32, 1), (32, 8), (8, 3), (128, 3))),
    *({"particles": 32, "horizon": 3, "resample": rule} for rule in ("every", "never")),
    *({"particles": 32, "horizon": 3, "power": power} for power in (0.25, 0.5, 2.0)),
    {"particles": 32, "horizon": 3, "dynamics": "optimistic"},
)
"""Changes to the search of the run."""


class Planned(NamedTuple):
    """One way to act in the same episodes."""

    way: str
    particles: int
    horizon: int
    resample: str
    power: float
    dynamics: str
    mean: float
    std: float
    """Over episodes."""
    gain: float
    """Mean of the paired differences to the policy, with a 95 % interval over episodes."""
    gain_low: float
    gain_high: float
    episodes: int


SETTINGS = Planned._fields[1:6]
"""The columns that say which planner a row is of."""
STATES = 256


class Particles(NamedTuple):
    """The particles of one planner, means over states."""

    particles: int
    horizon: int
    resample: str
    power: float
    dynamics: str
    ess: float
    """Effective sample size, mean over the steps of a search."""
    ess_end: float
    """After the last step."""
    roots: float
    """First actions from which a particle descends."""
    resampled: float
    """How often particles were resampled in a search."""
    failed: float
    """Fraction of the searches that are not finite."""
    states: int


class Chosen(NamedTuple):
    """The policy of a checkpoint, in the episodes that choose one."""

    env_steps: int
    mean: float
    chosen: bool


def half_trained(run: Path, table: Path) -> Policy:
    """The policy whose return is nearest to HALF_TRAINED; the returns of all checkpoints are written to `table`."""
    policies = {step: load(run, step) for step in checkpoints(run)}
    means = {
        step: policy.acting_by("policy").evaluate(10, seed=CHOOSE, deterministic=False).mean
        for step, policy in policies.items()
    }
    nearest = min(means, key=lambda step: abs(means[step] - HALF_TRAINED))
    tables.write(table, Chosen._fields, [Chosen(step, mean, step == nearest) for step, mean in means.items()])
    return policies[nearest]


def planners(policy: Policy) -> list[Any]:
    """The planner of the run with each change to its search."""
    behave: Any = policy.agent.behave
    return [replace(behave, search=replace(behave.search, **changes), eval_with="plan") for changes in SEARCHES]


def settings_of(planner: Any) -> tuple[Any, ...]:
    """What distinguishes a planner: the columns SETTINGS."""
    return tuple(getattr(planner.search, name) for name in SETTINGS)


def particles(policy: Policy) -> Iterator[Particles]:
    """The particles of each planner in states of the replay."""
    states = scale(jnp.asarray(recent_states(policy, str(policy.env_steps), STATES)), policy.scaling)
    keys = jax.random.split(make_key(0), len(states))
    for planner in planners(policy):
        found = jax.jit(jax.vmap(planner, (None, 0, 0)))(policy.agent, states, keys).search
        roots, failed = (found.log_weight > -jnp.inf).sum(1).mean(), 1.0 - jnp.isfinite(found.log_evidence).mean()
        means = found.ess.mean(), found.ess[:, -1].mean(), roots, found.resampled.sum(1).mean(), failed
        yield Particles(*settings_of(planner), *map(float, means), len(states))


def measured(policy: Policy, episodes: int, known: Sequence[Planned]) -> Iterator[Planned]:
    """The policy, and each planner. Planners of `known` are not measured again if its policy returned the same."""

    def returns(way: Policy) -> Any:
        return np.asarray(way.evaluate(episodes, seed=MEASURE, deterministic=False).returns)

    own = returns(policy.acting_by("policy"))
    yield Planned("policy", 0, 0, "", 0.0, "", own.mean(), own.std(), 0.0, 0.0, 0.0, episodes)
    same = any(row.way == "policy" and row.mean == own.mean() for row in known)
    before = {row[1:6]: row for row in known if row.way == "plan" and same and row.episodes == episodes}
    for planner in planners(policy):
        if settings_of(planner) in before:
            yield before[settings_of(planner)]
            continue
        found = returns(policy.changed(lambda agent, planner=planner: replace(agent, behave=planner)))
        yield Planned("plan", *settings_of(planner), found.mean(), found.std(), *interval(found - own), episodes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--checkpoint", default="", help="the checkpoint; without it, the half-trained one")
    parser.add_argument("--name", default="", help="added to the names of the tables")
    parser.add_argument("--go-on", action="store_true", help="keep what the table in OUT has of this policy")
    args = parser.parse_args()
    name, rows = f"plans_{args.name}" if args.name else "plans", []
    choice, table = args.out / f"{name}_checkpoints.csv", args.out / f"{name}.csv"
    policy = load(args.run, args.checkpoint) if args.checkpoint else half_trained(args.run, choice)
    tables.write(args.out / f"{name}_particles.csv", Particles._fields, particles(policy))
    known = tables.read(table, Planned) if args.go_on and table.is_file() else []
    for row in measured(policy, args.episodes, known):
        print(*row, flush=True)
        rows.append(row)
        tables.write(table, Planned._fields, rows)


if __name__ == "__main__":
    main()
