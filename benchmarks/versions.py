"""Is an update as fast as in another version? SAC updates a second of two checkouts, window by window in turn.

    python benchmarks/versions.py ../estep-of-before [--algorithm SAC --rounds 15 --seconds 3]

Each checkout runs in a process of its own. It needs only what is public in all versions: `estep.update` on a batch of
256 transitions of HalfCheetah-v5's sizes, blocks of 8 updates under `lax.scan`, networks of 2 x 256. The columns are
updates a second of both, and the median over rounds of the ratio new / old.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK, BATCH = 8, 256


def work(algorithm: str, seconds: float) -> None:
    """Measure a window for each line of stdin: updates a second, on stdout."""
    import jax
    import jax.numpy as jnp

    import estep

    spec, keys = estep.Spec(17, 6), jax.random.split(estep.make_key(0), 5)
    agent = getattr(estep, algorithm)().init(spec, estep.make_key(1))
    shape = (BLOCK, BATCH, 1)
    obs, next_obs = (jax.random.normal(key, (*shape, 17)) for key in keys[:2])
    action, reward = jax.random.normal(keys[2], (*shape, 6)), jax.random.normal(keys[3], shape)
    batches = estep.Transition(obs, action, reward, jnp.ones(shape), next_obs, jnp.zeros(shape))

    @partial(jax.jit, donate_argnums=0)
    def improve(agent, batches, key):
        def one(agent, item):
            return estep.update(agent, *item)

        return jax.lax.scan(one, agent, (batches, jax.random.split(key, BLOCK)))

    for _ in range(3):
        agent, info = improve(agent, batches, keys[4])
    for _ in sys.stdin:
        count, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            agent, info = improve(agent, batches, keys[4])
            info["skipped"].block_until_ready()
            count += BLOCK
        print(count / (time.perf_counter() - begun), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    parser.add_argument("--algorithm", default="SAC", help="a class of estep, with its defaults (SAC)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a window")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.algorithm, args.seconds)
        return
    import sheet  # it imports this version's estep, which a worker of another version must not

    call = [sys.executable, __file__, str(args.other), "--worker", "--algorithm", args.algorithm]
    call += ["--seconds", str(args.seconds)]
    folders = {"new": ROOT, "old": args.other.absolute()}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = {
        name: subprocess.Popen(call, env={**os.environ, "PYTHONPATH": str(folder / "src")}, **pipes)
        for name, folder in folders.items()
    }
    speeds: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(args.rounds):
        for name, worker in workers.items():
            worker.stdin.write("\n")
            worker.stdin.flush()
            speeds[name].append(float(worker.stdout.readline()))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    ratios = [new / old for new, old in zip(speeds["new"], speeds["old"], strict=True)]
    row = {
        "algorithm": args.algorithm,
        **{f"{name}_updates_per_s": f"{statistics.median(of):.1f}" for name, of in speeds.items()},
        "ratio": f"{statistics.median(ratios):.3f}",
        "least_ratio": f"{min(ratios):.3f}",
        "greatest_ratio": f"{max(ratios):.3f}",
        "rounds": str(args.rounds),
    }
    print(row)
    sheet.write(sheet.RESULTS / f"versions-{sheet.version('estep')}.csv", [row], sheet.machine())


if __name__ == "__main__":
    main()
