"""What the roots of a search have to do with real returns: the correlation of their advantages with what they earn.

In states of the agent's own episodes a search draws its roots and says how good each is. Then each root is taken in the
simulator, and after it the mode of the policy. The correlation is over the roots of a state, and its mean over states.
Run as

    python experiments/models/luck.py results/models_mujoco RUN ...
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from estep import make_key
from estep.e_steps.plans import proposing
from estep.envs.build import FRESH
from estep.envs.restore import Simulator
from estep.instruments.interval import interval_of_clusters
from estep.instruments.play.lockstep import Table, direct_point, play
from estep.instruments.play.realised import Starts, choose_starts
from estep.instruments.play.rollouts import rollouts
from estep.instruments.play.ways import direct_way
from estep.plots import labels
from estep.policy.actor import scale
from estep.policy.environments import chosen_env, make_env
from estep.policy.job import QUIET
from estep.policy.policy import load
from estep.runs import tables

EPISODES, STATES, STEPS, ROOTS = 5, 60, 25, 16
WAYS: tuple[dict[str, Any], ...] = (
    {"dynamics": "optimistic", "members": 1},
    {"dynamics": "variational", "members": 1},
    {"dynamics": "variational", "members": 5},
)
"""How an imagined step is weighed. With optimistic dynamics each particle has luck of its own."""
HORIZONS = (1, 2, 4, 8)


class Row(NamedTuple):
    """One way to say how good a root is."""

    env: str
    algorithm: str
    env_steps: int
    by: str
    """A search, or the agent's critic: Q̂ of the root."""
    horizon: int
    members: int
    """How many of them weigh an imagined step."""
    spread: float
    """Standard deviation over the roots of a state of what is said of them, in units of the reward."""
    spread_real: float
    """The same of what they earn."""
    correlation: float
    """Mean over states, with a 95 % interval whose clusters are the episodes."""
    low: float
    high: float
    states: int


def rows(run: Path) -> Iterator[Row]:
    """The rows of a run."""
    policy = load(run)
    agent, recipe = proposing(policy.agent), policy.recipe
    env, algorithm, *_ = labels.run_label(run)
    with closing(make_env(chosen_env(recipe, None, False), recipe.run, QUIET, FRESH)) as episodes:
        simulator = Simulator(episodes)
        played = rollouts(agent, episodes, policy.scaling, make_key(0), EPISODES, simulator.save)
        starts = choose_starts(played, simulator.limit, STEPS, 1, STATES)
        table = Table(agent, direct_way(agent), policy.scaling, make_key(1))
        for row in weighed(policy.agent, simulator, table, starts):
            yield Row(env, algorithm, policy.env_steps, *row)


def weighed(agent: Any, simulator: Simulator, table: Table, starts: Starts) -> Iterator[tuple[Any, ...]]:
    """What is said of the roots in each way, and what they earn."""
    obs = scale(jnp.asarray(np.stack([one.obs for one in starts.saved])), table.scaling)
    keys = jax.random.split(make_key(2), len(obs))
    earned: dict[bytes, np.ndarray] = {}
    for way, horizon in itertools.product(WAYS, HORIZONS):
        search = replace(agent.behave.search, particles=ROOTS, horizon=horizon, resample="never", power=1.0, **way)
        found = jax.jit(jax.vmap(replace(agent.behave, search=search), (None, 0, 0)))(agent, obs, keys).search
        seen = np.asarray(found.action).tobytes()
        if seen not in earned:
            earned[seen] = returns(simulator, table, starts, obs, found.action)
            said = jax.jit(jax.vmap(jax.vmap(q_of(agent), (None, 0))))(obs, found.action)
            yield "critic", 0, 0, *compared(said, earned[seen], starts)
        yield way["dynamics"], horizon, way["members"], *compared(found.advantage, earned[seen], starts)


def q_of(agent: Any) -> Any:
    """Q̂ as the agent reads its critics to act."""
    critic = agent.acting_critic(agent.likelihood)
    return lambda obs, u: critic(agent.problem(critic, obs), u, make_key(0))


def returns(simulator: Simulator, table: Table, starts: Starts, obs: jax.Array, roots: jax.Array) -> np.ndarray:
    """[states, roots]: the discounted return of each root and of the direct policy after it."""
    squash, keys = table.agent.spec.squash, jax.random.split(jax.random.fold_in(table.key, 0), len(obs))
    direct = squash(jax.vmap(lambda obs, key: direct_point(table, obs, key))(obs, keys))
    columns = [play(simulator, starts.saved, table, [squash(roots[:, i]) - direct], STEPS) for i in range(ROOTS)]
    return np.stack([one.earned for one in columns], axis=1)


def compared(said: Any, real: np.ndarray, starts: Starts) -> tuple[Any, ...]:
    """Both spreads, and the correlation with its interval."""
    apart = [np.asarray(values, np.float64) for values in (said, real)]
    apart = [values - values.mean(1, keepdims=True) for values in apart]
    sizes = [np.sqrt((values**2).mean(1)) for values in apart]
    each = (apart[0] * apart[1]).mean(1) / np.maximum(sizes[0] * sizes[1], 1e-12)
    spread = [float(np.sqrt((size**2).mean())) for size in sizes]
    return *spread, *interval_of_clusters(each, starts.episode), len(each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    args = parser.parse_args()
    tables.write(args.out / "luck.csv", Row._fields, [row for run in args.runs for row in rows(run)])


if __name__ == "__main__":
    main()
