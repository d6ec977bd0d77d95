"""How long does a plan take, and how even are the weights of its particles?

One action of `smcp` in one state, for N particles and h imagined steps: with one member of the model (the "optimistic"
dynamics) and with all five, values by one sample that all particles share. ms is the median over calls, cpu_ms the
median of the processor time, which other work on the machine adds little to, ess the effective sample size of the
particles, mean over the steps and the calls, and roots how many first actions have descendants. The agent is fresh, at
the sizes of HalfCheetah-v5, and then ess and roots mean little; --run gives a trained one.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import sheet

PARTICLES, HORIZONS = (16, 32, 64, 128, 256, 512), (1, 3, 5, 8, 16)
DYNAMICS = {"optimistic": "one", "variational": "all"}
WARM = 3


def agent_and_state(run: Path | None) -> tuple[Any, Any]:
    """The agent of a run with the first observation of its environment, or a fresh agent with any observation."""
    import estep
    from estep.algorithms import SMCP

    if run is None:
        agent = SMCP().init(estep.Spec(17, 6), estep.make_key(0))
        return agent, np.random.default_rng(0).normal(size=17).astype(np.float32)
    import gymnasium

    policy = estep.load(run)
    with gymnasium.make(policy.recipe.env) as env:
        obs = np.asarray(env.reset(seed=0)[0], np.float32)
    return policy.agent, obs if policy.moments is None else (obs - policy.moments.mean) / policy.moments.scale


def measured(agent: Any, obs: Any, calls: int) -> dict[str, str]:
    """The time of a call and the figures of its searches."""
    import jax

    from estep import make_key

    @jax.jit
    def plan(agent: Any, obs: Any, key: Any) -> tuple[Any, Any]:
        found = agent.behave(agent, obs, key)
        return found.sample(key), found.search

    seconds, processor, ess, roots, key = [], [], [], [], make_key(0)
    for call in range(WARM + calls):
        began, used = time.perf_counter(), time.process_time()
        _, search = jax.block_until_ready(plan(agent, obs, jax.random.fold_in(key, call)))
        seconds.append(time.perf_counter() - began)
        processor.append(time.process_time() - used)
        ess.append(float(search.ess.mean()))
        roots.append(int((search.log_weight > -np.inf).sum()))
    figures = {"ms": 1e3 * statistics.median(seconds[WARM:]), "least_ms": 1e3 * min(seconds[WARM:])}
    figures["cpu_ms"] = 1e3 * statistics.median(processor[WARM:])
    figures |= {"ess": statistics.mean(ess), "roots": statistics.mean(roots)}
    return {name: f"{value:.4g}" for name, value in figures.items()}


def rows(args: argparse.Namespace) -> Iterator[dict[str, str]]:
    """One row for each number of particles, horizon and dynamics."""
    agent, obs = agent_and_state(args.run)
    for dynamics, n, h in itertools.product(DYNAMICS, args.particles, args.horizon):
        search = replace(agent.behave.search, particles=n, horizon=h, dynamics=dynamics)
        one = replace(agent, behave=replace(agent.behave, search=search))
        of = {"members": DYNAMICS[dynamics], "particles": str(n), "horizon": str(h), "calls": str(args.calls)}
        yield {**of, "run": str(args.run or ""), "core": str("" if args.pin is None else args.pin)} | measured(
            one, obs, args.calls
        )


def main() -> None:
    parser = sheet.pinnable(sheet.parser(__file__, __doc__))
    parser.add_argument("--particles", type=int, nargs="+", default=PARTICLES, help="numbers of particles")
    parser.add_argument("--horizon", type=int, nargs="+", default=HORIZONS, help="numbers of imagined steps")
    parser.add_argument("--calls", type=int, default=50, help="calls that are timed (50)")
    parser.add_argument("--run", type=Path, help="folder of a run of smcp (none: a fresh agent)")
    args = parser.parse_args()
    if args.pin is not None:
        os.sched_setaffinity(0, {args.pin})  # before JAX makes its threads
    found = list(rows(args))
    sheet.write(args.out, found, sheet.machine())
    sheet.show(found, ("members", "particles", "horizon", "ms", "least_ms", "cpu_ms", "ess", "roots"))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
