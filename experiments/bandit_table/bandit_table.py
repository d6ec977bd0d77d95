"""Direct against iterative amortised inference where the best λ is known, and what an update of each costs.

Writes a line per variant, seed, objective and number of draws: the inference gap in units of reward, averaged over
held-out states, at the start and after k iterations. With as many draws as in training, and where those are fewer
also with ten, as acting has them. Run as

    python experiments/bandit_table/bandit_table.py --bandit quadratic --steps 3000 --seeds 0 1 2
    python experiments/bandit_table/bandit_table.py --bandit relu --steps 2000 --seeds 0 1 2
    python experiments/bandit_table/bandit_table.py --bandit RUN --steps 2000 --seeds 0 1 2 --out bandit_run.csv

quadratic: the posterior is Gaussian and its gap exact. relu: two random networks with several optima; the gap is to the
best of forty gradient ascents, so an optimiser that finds a better one has a negative gap. RUN, a folder: the critics
of its last checkpoint, which stay as they are, in the states of its replay, with its temperature and sizes of networks;
only what infers is trained. The shifted objective is another one, without retraining. Column gflop: matrix products of
one update of the variant's row at reference sizes (17 observations, 6 actions, 2 x 256, batches of 256). gap_kept:
where λ is kept, what replay holds at the end.
"""

from __future__ import annotations

import argparse
import csv
import functools as ft
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from bandits import BANDITS, Bandit, trained
from jaxtyping import Array, Float

from estep.algorithms.iterative_sac import IterativeSAC
from estep.algorithms.sac import SAC
from estep.core.agent import Agent
from estep.core.em import apply_pending
from estep.core.keys import make_key
from estep.core.learned import fixed
from estep.core.slots import Lam, Likelihood, Problem
from estep.core.types import Key, Obs, Transition
from estep.e_steps.chain import LAM
from estep.inference.iterative import Iterative
from estep.m_steps.temperature import Constant
from estep.policy.actor import memo_widths

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import flops  # what an update costs, and the settings whose cost is measured, are those of the benchmarks
from forms import iterative_sac

BATCH = 256
REPORTED = (*range(1, 11), 20)
"""Numbers of iterations whose gap is reported."""
ACTING = 10
"""Draws that acting can afford."""
REFERENCE = 256, 17, 6
"""Batch, observation and action of the reference size."""


class Variant(NamedTuple):
    """A line of the table."""

    row: SAC | IterativeSAC
    samples: int


def iterative_row(iterations: int, samples: int, encoding: str = "log_sign", **more: Any) -> Variant:
    """Iterative inference with one number of samples everywhere."""
    own = {"act_samples": samples, "antithetic": False, "grad_encoding": encoding, "restart_probability": 0.25} | more
    return Variant(iterative_sac(iterations, samples, **own), samples)


VARIANTS = {
    "direct": Variant(SAC(), 10),
    "5x10 layer_norm": iterative_row(5, 10, "layer_norm"),
    "5x10 log_sign": iterative_row(5, 10),
    "5x10 none": iterative_row(5, 10, "none"),
    "1x10 layer_norm": iterative_row(1, 10, "layer_norm"),
    "1x10 log_sign": iterative_row(1, 10),
    "5x2 antithetic": iterative_row(5, 2, antithetic=True),
    "5x2 independent": iterative_row(5, 2),
    "3x2 antithetic": iterative_row(3, 2, antithetic=True),
    "2x2 antithetic": iterative_row(2, 2, antithetic=True),
    "2x2 direct start": iterative_row(2, 2, antithetic=True, direct_start=True),
    "2x2 persistent": iterative_row(2, 2, antithetic=True, persist=True),
    "2x2 persistent half": iterative_row(2, 2, antithetic=True, persist=True, inference_fraction=0.5),
    "2x2 persistent direct start": iterative_row(
        2, 2, antithetic=True, persist=True, restart_probability=0.5, direct_start=True
    ),
    "2x2 persistent direct start half": iterative_row(
        2, 2, antithetic=True, persist=True, restart_probability=0.5, direct_start=True, inference_fraction=0.5
    ),
    "1x2 persistent": iterative_row(1, 2, antithetic=True, persist=True),
    "1x2 persistent half": iterative_row(1, 2, antithetic=True, persist=True, inference_fraction=0.5),
}


def fresh(variant: Variant, bandit: Bandit, seed: int) -> Agent:
    """An untrained agent on the bandit, at a fixed temperature."""
    agent = replace(variant.row, hidden_sizes=bandit.hidden).init(bandit.spec, make_key(seed))
    constant = fixed(Constant(jnp.asarray(bandit.alpha)))
    return replace(agent, likelihood=fixed(bandit.training), temperature=constant, samples=variant.samples)


def train(agent: Agent, bandit: Bandit, seed: int, steps: int) -> tuple[Agent, Float[Array, "n l"] | None]:
    """Climb V in states of the pool, each of which comes back. Also the λ kept for its first states, where it is."""
    k_steps = jax.random.split(make_key(10_000 + seed))[1]
    count = bandit.pool.shape[0]
    memo = {name: jnp.zeros((count, width)) for name, width in memo_widths(agent).items()}
    nought, action = jnp.zeros((BATCH, 1)), jnp.zeros((BATCH, 1, bandit.spec.action_dim))

    def step(carry: tuple[Agent, Any], key: Key) -> tuple[tuple[Agent, Any], None]:
        agent, memo = carry
        k_obs, k_climb = jax.random.split(key)
        chosen = jax.random.randint(k_obs, (BATCH,), 0, count)
        obs = bandit.pool[chosen][:, None]
        kept = {name: values[chosen][:, None] for name, values in memo.items()}
        batch = Transition(obs, action, nought, nought, obs, nought, kept)
        agent, _, kept, _ = agent.e_step(agent, batch, k_climb)
        memo = {name: values.at[chosen].set(kept[name][:, 0]) for name, values in memo.items()}
        return (apply_pending(agent)[0], memo), None

    run = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys)[0])
    agent, memo = run((agent, memo), jax.random.split(k_steps, steps))
    return agent, memo.get(LAM)


def iterates(agent: Agent, problem: Problem, key: Key) -> Float[Array, "k l"]:
    """λ at the start and after each of the most iterations reported, of one inference."""
    inference = agent.inference.model
    if isinstance(inference, Iterative):
        return replace(inference, samples=agent.samples).path(problem, agent.posterior, key, REPORTED[-1])
    start = agent.posterior.start(agent.prior.model(problem.obs))
    once = inference(problem, agent.posterior, key).lam
    return jnp.concatenate([start[None], jnp.broadcast_to(once, (REPORTED[-1], *once.shape))])


@ft.partial(jax.jit, static_argnums=0)
def references(best: Callable[..., Lam], agent: Agent, problem: Likelihood, obs: Float[Array, "n s"]) -> Array:
    """The best λ in each state; the same for all agents of one family."""
    return jax.vmap(lambda obs, key: best(agent, problem, obs, key))(obs, jax.random.split(make_key(7), obs.shape[0]))


@ft.partial(jax.jit, static_argnums=0)
def mean_gaps(gaps: Callable[..., Array], agent: Agent, problem: Likelihood, obs: Array, best: Array) -> Array:
    """The mean gap after 0, 1, 2, ... iterations (the same after each for direct inference)."""

    def one(obs: Obs, best: Lam, key: Key) -> Float[Array, " k"]:
        k_infer, k_gap = jax.random.split(key)
        lams = iterates(agent, agent.problem(problem, obs), k_infer)
        return gaps(agent, problem, obs, best, lams, k_gap)

    return jax.vmap(one)(obs, best, jax.random.split(make_key(9), obs.shape[0])).mean(0)


@ft.partial(jax.jit, static_argnums=0)
def mean_gap_kept(
    gaps: Callable[..., Array], agent: Agent, problem: Likelihood, obs: Array, best: Array, lams: Array
) -> Array:
    """The mean gap of what the pool keeps in states [n, s], before another visit."""

    def one(obs: Obs, best: Lam, lam: Lam, key: Key) -> Array:
        return gaps(agent, problem, obs, best, lam[None], key)[0]

    return jax.vmap(one)(obs, best, lams, jax.random.split(make_key(8), obs.shape[0])).mean()


def lines(name: str, names: Sequence[str], seeds: Sequence[int], steps: int) -> Iterator[dict[str, str]]:
    """The table, line by line."""
    for seed in seeds:
        bandit = BANDITS[name](seed) if name in BANDITS else trained(Path(name), seed)
        label = name if name in BANDITS else Path(name).resolve().parent.name
        visited = bandit.pool[: bandit.held_out.shape[0]]
        any_agent = fresh(VARIANTS["direct"], bandit, seed)
        objectives = {"training": bandit.training, "shifted": bandit.shifted}
        found = ft.partial(references, bandit.best, any_agent)
        best = {objective: found(problem, bandit.held_out) for objective, problem in objectives.items()}
        best_visited = found(bandit.training, visited)
        for variant_name in names:
            began = time.time()
            variant = VARIANTS[variant_name]
            agent, kept = train(fresh(variant, bandit, seed), bandit, seed, steps)
            held = ""
            if kept is not None:
                first = kept[: visited.shape[0]]
                held = f"{float(mean_gap_kept(bandit.gaps, agent, bandit.training, visited, best_visited, first)):.4g}"
            gflop = f"{flops.flop(flops.of(variant.row, *REFERENCE)) / 1e9:.3f}"
            about = {"bandit": label, "variant": variant_name, "gflop": gflop, "seed": str(seed), "steps": str(steps)}
            for objective, problem in objectives.items():
                for samples in sorted({variant.samples, max(variant.samples, ACTING)}):
                    asked = replace(agent, samples=samples)
                    missing = mean_gaps(bandit.gaps, asked, problem, bandit.held_out, best[objective])
                    columns = {f"gap_{k}": f"{float(missing[k]):.4g}" for k in (0, *REPORTED)}
                    yield {**about, "objective": objective, "samples": str(samples), **columns, "gap_kept": held}
            print(f"{label}, {variant_name}, seed {seed}: {time.time() - began:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bandit", default="quadratic", help=f"{', '.join(BANDITS)}, or the folder of a run")
    parser.add_argument("--steps", type=int, default=3000, help="updates of each variant")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the problem and of the networks")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("--out", type=Path, help="CSV (results/frontier/bandit_BANDIT.csv)")
    args = parser.parse_args()
    out = args.out or Path(__file__).parents[2] / "results" / "frontier" / f"bandit_{Path(args.bandit).name}.csv"
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
