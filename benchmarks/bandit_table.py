"""Direct against iterative amortised inference where the best λ is known, and what an update of each costs.

Writes a line per variant, seed, objective and number of draws: the inference gap in units of reward, averaged over
held-out states, at the start and after k iterations. With as many draws as in training, and where those are fewer
also with ten, as acting has them. Run as

    python benchmarks/bandit_table.py --bandit quadratic --steps 3000 --seeds 0 1 2
    python benchmarks/bandit_table.py --bandit relu --steps 2000 --seeds 0 1 2

quadratic: the posterior is Gaussian and its gap exact. relu: two random networks with several optima; the gap is to the
best of forty gradient ascents, so an optimiser that finds a better one has a negative gap. The shifted objective is
another one, without retraining. Column gflop: matrix products of one update of the variant's row at reference sizes
(17 observations, 6 actions, 2 x 256, batches of 256). gap_kept: where λ is kept, what replay holds at the end.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import bandits
import flops
import jax
import jax.numpy as jnp
from bandits import ACTION, ALPHA, BANDITS, STATE
from jaxtyping import Array, Float

from estep.algorithms.iterative_sac import IterativeSAC
from estep.algorithms.sac import SAC
from estep.constraints.temperature import Constant
from estep.core import em
from estep.core.agent import Agent
from estep.core.keys import make_key
from estep.core.learned import fixed
from estep.core.protocols import Lam, Problem
from estep.core.types import Key, Obs, Transition
from estep.experiment.device import remembered
from estep.inference.chain import HERE
from estep.inference.iterative import Iterative

BATCH = 256
POOL = 25_600
"""States that come back, for inference that goes on where it stopped: 30 visits of each in 3000 updates."""
REPORTED = (*range(1, 11), 20)
"""Numbers of iterations whose gap is reported."""
ACTING = 10
"""Draws that acting can afford."""
REFERENCE = 256, 17, 6
"""Batch, observation and action of the reference size."""

Bandit = bandits.Quadratic | bandits.Rough


class Variant(NamedTuple):
    """A line of the table."""

    row: SAC | IterativeSAC
    samples: int


def iterative_row(iterations: int, samples: int, encoding: str = "log_sign", **more: Any) -> Variant:
    """Iterative inference with one number of samples everywhere."""
    numbers = {"iterations": iterations, "samples": samples, "act_samples": samples, "pairs": False} | more
    return Variant(IterativeSAC(grad_encoding=encoding, **numbers), samples)


VARIANTS = {
    "direct": Variant(SAC(), 10),
    "5x10 layer_norm": iterative_row(5, 10, "layer_norm"),
    "5x10 log_sign": iterative_row(5, 10),
    "5x10 none": iterative_row(5, 10, "none"),
    "1x10 layer_norm": iterative_row(1, 10, "layer_norm"),
    "1x10 log_sign": iterative_row(1, 10),
    "5x2 antithetic": iterative_row(5, 2, pairs=True),
    "5x2 independent": iterative_row(5, 2),
    "3x2 antithetic": iterative_row(3, 2, pairs=True),
    "2x2 antithetic": iterative_row(2, 2, pairs=True),
    "2x2 direct start": iterative_row(2, 2, pairs=True, direct_start=True),
    "2x2 persistent": iterative_row(2, 2, pairs=True, persist=True),
    "2x2 persistent half": iterative_row(2, 2, pairs=True, persist=True, part=0.5),
    "2x2 persistent direct start": iterative_row(2, 2, pairs=True, persist=True, restart=0.5, direct_start=True),
    "2x2 persistent direct start half": iterative_row(
        2, 2, pairs=True, persist=True, restart=0.5, direct_start=True, part=0.5
    ),
    "1x2 persistent": iterative_row(1, 2, pairs=True, persist=True),
    "1x2 persistent half": iterative_row(1, 2, pairs=True, persist=True, part=0.5),
}


def fresh(variant: Variant, problem: Bandit, seed: int) -> Agent:
    """An untrained agent on the bandit, at a fixed temperature."""
    agent = variant.row.init(problem.spec, make_key(seed))
    constant = fixed(Constant(jnp.asarray(ALPHA)))
    return replace(agent, likelihood=fixed(problem), temperature=constant, samples=variant.samples)


def train(agent: Agent, seed: int, steps: int) -> tuple[Agent, Float[Array, "n l"] | None]:
    """Climb V on fresh states; where λ is kept, on states of a pool, each of which comes back. Also what it keeps of
    the pool's first states."""
    k_steps = jax.random.split(make_key(10_000 + seed))[1]
    states = pool(seed)
    memo = {name: jnp.zeros((POOL, width)) for name, width in remembered(agent).items()}

    def step(carry: tuple[Agent, Any], key: Key) -> tuple[tuple[Agent, Any], None]:
        agent, memo = carry
        k_obs, k_climb = jax.random.split(key)
        chosen = jax.random.randint(k_obs, (BATCH,), 0, POOL)
        obs = (states[chosen] if memo else jax.random.normal(k_obs, (BATCH, STATE)))[:, None]
        nought, kept = jnp.zeros((BATCH, 1)), {name: values[chosen][:, None] for name, values in memo.items()}
        batch = Transition(obs, jnp.zeros((BATCH, 1, ACTION)), nought, nought, obs, nought, kept)
        agent, _, kept, _ = agent.e_step(agent, batch, k_climb)
        memo = {name: values.at[chosen].set(kept[name][:, 0]) for name, values in memo.items()}
        return (em.settle(agent)[0], memo), None

    run = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys)[0])
    agent, memo = run((agent, memo), jax.random.split(k_steps, steps))
    return agent, memo.get(HERE)


def pool(seed: int) -> Float[Array, "n s"]:
    """States that come back."""
    return jax.random.normal(jax.random.split(make_key(10_000 + seed))[0], (POOL, STATE))


def iterates(agent: Agent, problem: Problem, key: Key) -> Float[Array, "k l"]:
    """λ at the start and after each of the most iterations reported, of one inference."""
    inference = agent.inference.model
    if isinstance(inference, Iterative):
        return replace(inference, samples=agent.samples).path(problem, agent.posterior, key, REPORTED[-1])
    start = agent.posterior.start(agent.prior.model(problem.obs))
    once = inference(problem, agent.posterior, key).lam
    return jnp.concatenate([start[None], jnp.broadcast_to(once, (REPORTED[-1], *once.shape))])


@jax.jit
def references(agent: Agent, problem: Bandit, obs: Float[Array, "n s"]) -> Float[Array, "n l"]:
    """The best λ in each state; the same for all agents of one family."""
    return jax.vmap(lambda obs, key: problem.best(agent, obs, key))(obs, jax.random.split(make_key(7), obs.shape[0]))


def held_out(problem: Bandit) -> Float[Array, "n s"]:
    """States that no agent learns from."""
    return jax.random.normal(make_key(31337), (problem.states, STATE))


@jax.jit
def mean_gaps(agent: Agent, problem: Bandit, best: Float[Array, "n l"]) -> Float[Array, " k"]:
    """The mean gap after 0, 1, 2, ... iterations (the same after each for direct inference)."""

    def one(obs: Obs, best: Lam, key: Key) -> Float[Array, " k"]:
        k_infer, k_gap = jax.random.split(key)
        lams = iterates(agent, agent.problem(problem, obs), k_infer)
        return problem.gaps(agent, obs, best, lams, k_gap)

    return jax.vmap(one)(held_out(problem), best, jax.random.split(make_key(9), problem.states)).mean(0)


@jax.jit
def mean_gap_kept(agent: Agent, problem: Bandit, obs: Array, best: Array, lams: Array) -> Array:
    """The mean gap of what the pool keeps in states [n, s], before another visit."""

    def one(obs: Obs, best: Lam, lam: Lam, key: Key) -> Array:
        return problem.gaps(agent, obs, best, lam[None], key)[0]

    return jax.vmap(one)(obs, best, lams, jax.random.split(make_key(8), obs.shape[0])).mean()


def lines(bandit: str, names: Sequence[str], seeds: Sequence[int], steps: int) -> Iterator[dict[str, str]]:
    """The table, line by line."""
    for seed in seeds:
        problem = BANDITS[bandit](seed)
        visited = pool(seed)[: problem.states]
        any_agent = fresh(VARIANTS["direct"], problem, seed)
        objectives = {"training": problem, "shifted": problem.shifted()}
        best = {name: references(any_agent, each, held_out(each)) for name, each in objectives.items()}
        best_visited = references(any_agent, problem, visited)
        for name in names:
            began = time.time()
            variant = VARIANTS[name]
            agent, kept = train(fresh(variant, problem, seed), seed, steps)
            held = ""
            if kept is not None:
                held = f"{float(mean_gap_kept(agent, problem, visited, best_visited, kept[: problem.states])):.4g}"
            gflop = f"{flops.flop(flops.of(variant.row, *REFERENCE)) / 1e9:.3f}"
            for objective, changed in objectives.items():
                for samples in sorted({variant.samples, max(variant.samples, ACTING)}):
                    found = mean_gaps(replace(agent, samples=samples), changed, best[objective])
                    columns = {f"gap_{k}": f"{float(found[k]):.4g}" for k in (0, *REPORTED)}
                    line = {"bandit": bandit, "variant": name, "gflop": gflop, "seed": str(seed), "steps": str(steps)}
                    yield {**line, "objective": objective, "samples": str(samples), **columns, "gap_kept": held}
            print(f"{bandit}, {name}, seed {seed}: {time.time() - began:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bandit", choices=list(BANDITS), default="quadratic")
    parser.add_argument("--steps", type=int, default=3000, help="updates of each variant")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the problem and of the networks")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("--out", type=Path, help="CSV (results/bandit_BANDIT.csv)")
    args = parser.parse_args()
    out = args.out or Path(__file__).parents[1] / "results" / f"bandit_{args.bandit}.csv"
    writer = None
    with out.open("w", newline="") as file:
        for line in lines(args.bandit, args.variants, args.seeds, args.steps):
            if writer is None:
                writer = csv.DictWriter(file, list(line), lineterminator="\n")
                writer.writeheader()
            writer.writerow(line)
            file.flush()


if __name__ == "__main__":
    main()
