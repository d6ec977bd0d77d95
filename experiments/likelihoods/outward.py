"""Where the network of iterative inference leads the λ of next states, by how far out they are.

It writes outward.csv, a line for each run and distance. Run as

    python experiments/likelihoods/outward.py results/likelihoods/chain RUN ...
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from kept import stored

from estep.core.objective import soft_value
from estep.core.slots import Lam
from estep.core.types import Key, Obs
from estep.e_steps.chain import LARGEST
from estep.inference.iterative import Iterative
from estep.policy import policy
from estep.runs import tables

DISTANCES = 0.0, 2.0, 3.0, 5.0, 20.0, np.inf
"""Limits of |μ| of the dimension of u that is furthest out."""
STATES = 1000
"""At most so many states of each distance, evenly spaced over those in replay."""
MORE = 60
"""A chain goes on by so many iterations, about as many as a step in replay had by the end of a run."""


class Outward(NamedTuple):
    """States of one run whose λ is about as far out. All but the last are of the dimension that is furthest out."""

    env: str
    seed: int
    low: float
    high: float
    states: int
    """How many there are in replay."""
    inward: float
    """The fraction of them where V rises towards 0."""
    factor: float
    """|μ| after one iteration over |μ| before, the median."""
    outward: float
    """The fraction where |μ| grows in one iteration."""
    beyond: float
    """The fraction whose λ is beyond what replay keeps, after MORE iterations."""


def outward(run: Path) -> Iterator[Outward]:
    """What one iteration, and MORE of them, do with the λ that replay keeps."""
    trained = policy.load(run, "latest")
    agent, recipe = trained.agent, trained.recipe
    inference, critic = cast(Iterative, agent.inference.model), agent.training_critic(agent.likelihood)
    obs, lam = stored(trained)
    means = lam.shape[-1] // 2

    @eqx.filter_jit
    @jax.vmap
    def step(obs: Obs, lam: Lam, key: Key) -> tuple[Lam, Lam]:
        problem = agent.problem_from(inference, critic, obs, key)
        grad = jax.grad(lambda lam: soft_value(agent.posterior(lam), problem, key, inference.samples)[0])(lam)
        return grad, inference.refine(problem, agent.posterior, lam, -grad)[0]

    distance = np.abs(lam[:, :means]).max(-1)
    for low, high in itertools.pairwise(DISTANCES):
        found = np.flatnonzero((distance >= low) & (distance < high))
        if not len(found):
            continue
        chosen = found[np.linspace(0, len(found) - 1, min(len(found), STATES)).astype(int)]
        at = np.arange(len(chosen)), np.abs(lam[chosen, :means]).argmax(-1)
        now: Float[Array, "n l"] = jnp.asarray(lam[chosen])
        grad, new = step(jnp.asarray(obs[chosen]), now, jax.random.split(jax.random.key(0), len(chosen)))
        side, factor = np.sign(np.asarray(now)[at]), np.asarray(new)[at] / np.asarray(now)[at]
        for key in jax.random.split(jax.random.key(1), MORE):
            now = step(jnp.asarray(obs[chosen]), now, jax.random.split(key, len(chosen)))[1]
        beyond = ~(np.abs(np.asarray(now)).max(-1) <= LARGEST)  # NaN is
        inward = np.asarray(grad)[at] * side < 0
        numbers = inward.mean(), np.median(factor), (factor > 1).mean(), beyond.mean()
        yield Outward(str(recipe.env), recipe.run.seed, low, high, len(found), *map(float, numbers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of the table")
    parser.add_argument("runs", type=Path, nargs="+", help="run folders of iterative-sac")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = itertools.chain.from_iterable(map(outward, sorted(args.runs)))
    tables.write(args.out / "outward.csv", Outward._fields, rows)


if __name__ == "__main__":
    main()
