"""How long do the first 10,000 environment steps take, from the start of the process, compilation included?

A fresh interpreter per contender and repeat: SAC on HalfCheetah-v5, clock from before the process exists until the last
step was taken. estep starts once with an empty compilation cache and once more with the one it just filled; sbx-rl
without a cache, as it comes, and with JAX's own, filled likewise. Two settings of the random steps at the start: each
library's default (estep's 5,000 leave half the updates of the peers' 100), and the same for all (--warmup-steps).

Columns: wall_s; start_s, until the first step was taken; compile_s, the sum over XLA compilations or cache readings
(inside wall_s); programs, their number; rss_mib, the peak; updates made. For estep where the time went over the second
half of the steps that had updates: act, env, sample, update and rest, as shares of the wall time.
"""

from __future__ import annotations

import functools as ft
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import sheet
from contenders import PEERS, estep_run, peer_model
from race import Worker

PARTS = ("act", "env", "sample", "update")
NO_CACHE: Mapping[str, str] = {}


class Marks:
    """A hook after each environment step: notes when the first and the last were taken, and sends what was found."""

    def __init__(self, connection: Connection, steps: int, aside: Callable[[], dict[str, float]]) -> None:
        self.connection, self.steps, self.aside = connection, steps, aside
        self.taken, self.first = 0, 0.0

    def __call__(self) -> bool:
        """Count a step; after the last one wait for the end of the process."""
        self.taken += 1
        if self.taken == 1:
            self.first = time.monotonic()
        if self.taken == self.steps:
            found = {"first": self.first, "last": time.monotonic(), **self.aside()}
            unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes on macOS, kilobytes on Linux
            found["rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
            self.connection.send(found)
            self.connection.recv()
        return False


def compilations() -> list[float]:
    """A list that grows by the seconds of each XLA compilation of this process, or of its reading from the cache."""
    import jax

    seconds: list[float] = []

    def listen(event: str, duration: float, **unused: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seconds.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return seconds


def shares(lines: list[dict[str, float]]) -> dict[str, float]:
    """Parts of the wall time between the middle of the updates and the end, from metrics.jsonl."""
    last = lines[-1]
    start = next(line for line in lines if line["updates"] >= last["updates"] / 2)
    wall = last["wall_s"] - start["wall_s"]
    if not wall:
        return {}
    parts = {part: (last[f"time/{part}_s"] - start[f"time/{part}_s"]) / wall for part in PARTS}
    return {**parts, "rest": 1.0 - sum(parts.values())}


def estep_first(steps: int, warmup: int | None, connection: Connection) -> None:
    """The whole of `estep.train`; the run ends with its process."""
    compiled = compilations()

    def aside() -> dict[str, float]:
        lines = [json.loads(line) for line in next(Path("runs").rglob("metrics.jsonl")).read_text().splitlines()]
        made = {"updates": lines[-1]["updates"], "compile_s": sum(compiled), "programs": len(compiled)}
        return made | shares(lines)

    options = {} if warmup is None else {"warmup_steps": warmup}
    estep_run(Marks(connection, steps, aside), steps=10 * steps, log_every=max(1, steps // 20), **options)


def peer_first(library: str, steps: int, warmup: int | None, connection: Connection) -> None:
    """A peer's `learn`. The callback comes before the update of the last step."""
    compiled = compilations() if PEERS[library] == "sbx" else []
    model = peer_model(library, warmup)

    def aside() -> dict[str, float]:
        return {"updates": model._n_updates, "compile_s": sum(compiled), "programs": len(compiled)}

    marks = Marks(connection, steps, aside)
    model.learn(10 * steps, callback=lambda *unused: not marks())


class Start(NamedTuple):
    """A contender, and the caches with which it starts one time after another."""

    name: str
    first: Callable[..., None]
    setting: Callable[[str], Mapping[str, str]]
    caches: tuple[str, ...]


def jax_cache(folder: str) -> Mapping[str, str]:
    """JAX's own persistent cache, with the thresholds that estep uses."""
    limits = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    return {"JAX_COMPILATION_CACHE_DIR": folder, **limits}


STARTS = (
    Start("estep", estep_first, lambda folder: {"ESTEP_CACHE_DIR": folder}, ("cold", "warm")),
    Start("sbx-rl", ft.partial(peer_first, "sbx-rl"), lambda folder: NO_CACHE, ("none",)),
    Start("sbx-rl", ft.partial(peer_first, "sbx-rl"), jax_cache, ("cold", "warm")),
    Start("stable-baselines3", ft.partial(peer_first, "stable-baselines3"), lambda folder: NO_CACHE, ("none",)),
)


def measure(start: Start, steps: int, warmup: int | None, core: int | None) -> list[dict[str, str]]:
    """One row for each state of the cache."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-cache-") as folder:
        for cache in start.caches:
            began = time.monotonic()
            cores = None if core is None else frozenset({core})
            with Worker(ft.partial(start.first, steps, warmup), cores, start.setting(folder)) as worker:
                found = worker.answer()
            wall = {"wall_s": found["last"] - began, "start_s": found["first"] - began}
            numbers = wall | {name: found[name] for name in ("compile_s", "programs", "updates", "rss_mib")}
            rows.append(
                {
                    **{"contender": start.name, "cache": cache, "core": "" if core is None else str(core)},
                    **{"random_steps": "default" if warmup is None else str(warmup), "env_steps": str(steps)},
                    **{name: f"{value:.6g}" for name, value in numbers.items()},
                    **{name: f"{found[name]:.3f}" if name in found else "" for name in (*PARTS, "rest")},
                }
            )
    return rows


def main() -> None:
    parser = sheet.pinnable(sheet.parser(__file__, __doc__))
    parser.add_argument("--rounds", type=int, default=3, help="fresh starts of each contender, in turn (3)")
    names = list(dict.fromkeys(start.name for start in STARTS))
    parser.add_argument("--contenders", nargs="+", choices=names, default=names)
    parser.add_argument("--steps", type=int, default=10_000, help="environment steps (10,000)")
    parser.add_argument(
        "--warmup-steps", type=int, default=1_000, help="random steps in the setting that is equal (1,000)"
    )
    args = parser.parse_args()
    for number in range(args.rounds):
        for warmup in (None, args.warmup_steps):
            for start in (start for start in STARTS if start.name in args.contenders):
                here = sheet.machine()
                rows = measure(start, args.steps, warmup, args.pin)
                rows = [{"round": str(number), **row} for row in rows]
                sheet.write(args.out, rows, here)
                sheet.show(rows, ("round", "contender", "cache", "random_steps", "wall_s", "compile_s", "rss_mib"))


if __name__ == "__main__":
    main()
