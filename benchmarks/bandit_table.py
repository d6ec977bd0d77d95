"""Direct against iterative amortised inference on a bandit whose posterior is known in closed form.

Writes one line per variant, seed and objective: the inference gap α KL(q‖q*), averaged over held-out states, at the
start and after k iterations. Run as

    python benchmarks/bandit_table.py --steps 3000 --seeds 0

The optimum b(s) is a rough function of the 8-dimensional state, Q(s, a) = -Σ (a - b)²/2c, p(a) = N(0, I). The shifted
objective moves every optimum by 0.5 after training.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.algorithms.iterative_sac import IterativeSAC
from estep.algorithms.sac import SAC
from estep.constraints.temperature import Constant
from estep.core import em
from estep.core.agent import Agent
from estep.core.keys import make_key
from estep.core.learned import fixed
from estep.core.protocols import Bootstrap, Lam, Likelihood, Problem
from estep.core.types import Action, Identity, Info, Key, Obs, Scalar, Spec, Transition
from estep.experiment.device import remembered
from estep.inference.iterative import Iterative

STATE, ACTION, ALPHA, BATCH, HELD_OUT = 8, 4, 0.2, 256, 1000
POOL = 25_600
"""States that come back, for inference that goes on where it stopped: 30 visits of each in 3000 updates."""
SHIFT = 0.5
REPORTED = (*range(1, 11), 20)
"""Numbers of iterations whose gap is reported."""


class Bandit(Likelihood):
    """Q(s, a) + α log p(a). The prior is part of Q because the library takes the KL of two Gaussians in closed form;
    the published figures are those of the sampled log-ratio."""

    w1: Float[Array, "s h"]
    w2: Float[Array, "h a"]
    w3: Float[Array, "h a"]
    shift: Scalar

    def landscape(self, obs: Obs) -> tuple[Action, Action]:
        """The optimum b and the curvature 1/c in one state."""
        h = jnp.sin(obs @ self.w1)
        return 1.5 * jnp.tanh(h @ self.w2) + self.shift, jnp.exp(h @ self.w3)

    def __call__(self, problem: Problem, action: Action, key: Key) -> Scalar:
        b, curvature = self.landscape(problem.obs)
        return -0.5 * (jnp.square(action - b) * curvature).sum() - 0.5 * ALPHA * jnp.square(action).sum()

    def loss(self, batch: Transition, bootstrap: Bootstrap, key: Key) -> tuple[Scalar, Info]:
        return jnp.zeros(()), {}

    def gap(self, obs: Obs, lam: Lam) -> Scalar:
        """α KL(q‖q*) in closed form."""
        mu, log_sigma = jnp.split(lam, 2)
        b, curvature = self.landscape(obs)
        precision = 1.0 + curvature / ALPHA
        mean = b * curvature / ALPHA / precision
        spread = jnp.exp(2 * log_sigma) + jnp.square(mu - mean)
        return 0.5 * ALPHA * (spread * precision - 1.0 - 2 * log_sigma - jnp.log(precision)).sum()


def bandit(seed: int) -> Bandit:
    """A fresh problem."""
    keys = jax.random.split(jax.random.key(1000 + seed), 3)
    shapes = ((1.2, (STATE, 64)), (0.5, (64, ACTION)), (0.3, (64, ACTION)))
    weights = [scale * jax.random.normal(key, shape) for key, (scale, shape) in zip(keys, shapes, strict=True)]
    return Bandit(*weights, jnp.zeros(()))


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
}


def fresh(variant: Variant, problem: Bandit, seed: int) -> Agent:
    """An untrained agent on the bandit, at a fixed temperature."""
    agent = variant.row.init(Spec(STATE, ACTION, Identity()), make_key(seed))
    constant = fixed(Constant(jnp.asarray(ALPHA)))
    return replace(agent, likelihood=fixed(problem), temperature=constant, samples=variant.samples)


def train(agent: Agent, seed: int, steps: int) -> Agent:
    """Climb V on fresh states; where λ is kept, on states of a pool, each of which comes back."""
    k_pool, k_steps = jax.random.split(make_key(10_000 + seed))
    pool = jax.random.normal(k_pool, (POOL, STATE))
    memo = {name: jnp.zeros((POOL, width)) for name, width in remembered(agent).items()}

    def step(carry: tuple[Agent, Any], key: Key) -> tuple[tuple[Agent, Any], None]:
        agent, memo = carry
        k_obs, k_climb = jax.random.split(key)
        chosen = jax.random.randint(k_obs, (BATCH,), 0, POOL)
        obs = (pool[chosen] if memo else jax.random.normal(k_obs, (BATCH, STATE)))[:, None]
        nought, kept = jnp.zeros((BATCH, 1)), {name: values[chosen][:, None] for name, values in memo.items()}
        batch = Transition(obs, jnp.zeros((BATCH, 1, ACTION)), nought, nought, obs, nought, kept)
        agent, _, kept, _ = agent.e_step(agent, batch, k_climb)
        memo = {name: values.at[chosen].set(kept[name][:, 0]) for name, values in memo.items()}
        return (em.settle(agent)[0], memo), None

    run = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys)[0])
    trained: Agent = run((agent, memo), jax.random.split(k_steps, steps))[0]
    return trained


def iterates(agent: Agent, problem: Problem, key: Key) -> Float[Array, "k l"]:
    """λ at the start and after each of the most iterations reported, of one inference."""
    inference = agent.inference.model
    if isinstance(inference, Iterative):
        return replace(inference, samples=agent.samples).path(problem, agent.posterior, key, REPORTED[-1])
    start = agent.posterior.start(agent.prior.model(problem.obs))
    once = inference(problem, agent.posterior, key).lam
    return jnp.concatenate([start[None], jnp.broadcast_to(once, (REPORTED[-1], *once.shape))])


@jax.jit
def mean_gaps(agent: Agent, problem: Bandit) -> Float[Array, " k"]:
    """The mean gap after 0, 1, 2, ... iterations (the same after each for direct inference)."""
    obs = jax.random.normal(make_key(31337), (HELD_OUT, STATE))

    def one(obs: Obs, key: Key) -> Float[Array, " k"]:
        lams = iterates(agent, agent.problem(problem, obs), key)
        return jax.vmap(lambda lam: problem.gap(obs, lam))(lams)

    return jax.vmap(one)(obs, jax.random.split(make_key(9), HELD_OUT)).mean(0)


def lines(names: list[str], seeds: list[int], steps: int) -> Iterator[dict[str, str]]:
    """The table, line by line."""
    for seed in seeds:
        problem = bandit(seed)
        for name in names:
            began = time.time()
            agent = train(fresh(VARIANTS[name], problem, seed), seed, steps)
            for objective, shift in (("training", 0.0), ("shifted", SHIFT)):
                found = mean_gaps(agent, replace(problem, shift=jnp.asarray(shift)))
                columns = {f"gap_{k}": f"{float(found[k]):.4g}" for k in (0, *REPORTED)}
                yield {"variant": name, "seed": str(seed), "steps": str(steps), "objective": objective, **columns}
            print(f"{name}, seed {seed}: {time.time() - began:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000, help="updates of each variant")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the problem and of the networks")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "bandit_table.csv")
    args = parser.parse_args()
    writer = None
    with args.out.open("w", newline="") as file:
        for line in lines(args.variants, args.seeds, args.steps):
            if writer is None:
                writer = csv.DictWriter(file, list(line), lineterminator="\n")
                writer.writeheader()
            writer.writerow(line)
            file.flush()


if __name__ == "__main__":
    main()
