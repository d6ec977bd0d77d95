"""How long until an evaluation returns 5,000 on HalfCheetah-v5?

SAC of estep and of sbx-rl, each pinned to one core, one after another or (--together) at once on a core each. Both take
the same number of random steps first. Every 5,000 environment steps the clock stands still for 5 episodes of the
deterministic policy, run by each library's own evaluation; wall_s is the time without them, from the start of the
process, compilation included, and eval_s what they took. A contender ends at the return asked for or at --max-steps.
One seed says little: compare several.
"""

from __future__ import annotations

import functools as ft
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection, wait
from typing import Any

import sheet
from contenders import BATCH, ENV, HIDDEN, peer_model
from race import Task, Worker, usable


class Clock:
    """Evaluates at intervals, sends a row of each, and keeps the time that is not spent evaluating."""

    def __init__(self, connection: Connection, evaluate: Callable[[], float], every: int) -> None:
        self.connection, self.evaluate, self.every = connection, evaluate, every
        self.evaluating = 0.0

    def __call__(self, env_steps: int) -> None:
        """Note where training stands; the parent ends the process when it has seen enough."""
        if env_steps % self.every:
            return
        paused = time.monotonic()
        mean = self.evaluate()
        took = time.monotonic() - paused
        self.connection.send((env_steps, paused - self.evaluating, mean, took))
        self.evaluating += took
        self.connection.recv()


def estep_returns(seed: int, every: int, episodes: int, warmup: int, connection: Connection) -> None:
    """The trainer's own steps, without files."""
    from estep.algorithms import SAC
    from estep.envs.build import EVAL
    from estep.envs.gymnasium import make
    from estep.policy.cache import use_cache
    from estep.policy.evaluate import evaluate
    from estep.settings.run import RunConfig
    from estep.training.trainer import Trainer

    use_cache()
    config = RunConfig(warmup_steps=warmup, batch_size=BATCH, seed=seed)
    trainer = Trainer(SAC(hidden_sizes=HIDDEN), make(ENV, seed=seed), config, lambda text: None)
    trainer.begin()

    def look() -> float:
        env = make(ENV, num_envs=episodes, seed=seed, stream=EVAL)
        found = evaluate(trainer.actor, env, episodes, seed, trainer.scaling)
        env.close()
        return found.mean

    clock = Clock(connection, look, every)
    while True:
        trainer.advance()
        clock(trainer.counts.env_steps)


def peer_returns(library: str, seed: int, every: int, episodes: int, warmup: int, connection: Connection) -> None:
    """A peer's `learn`."""
    import gymnasium
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    model = peer_model(library, warmup, seed)
    env = Monitor(gymnasium.make(ENV))
    env.reset(seed=1_000_000 + seed)
    clock = Clock(connection, lambda: float(evaluate_policy(model, env, episodes, deterministic=True)[0]), every)

    def each(*unused: Any) -> bool:
        clock(model.num_timesteps)
        return True

    model.learn(10**9, callback=each)


PIN = "cores to pin to, in the order of contenders, or the first for all where they run one after another"
TASKS: dict[str, Callable[..., None]] = {
    "estep": estep_returns,
    "sbx-rl": ft.partial(peer_returns, "sbx-rl"),
    "stable-baselines3": ft.partial(peer_returns, "stable-baselines3"),
}


def follow(tasks: Sequence[tuple[str, Task, int]], goal: float, most: int, write: Callable[..., None]) -> None:
    """Run tasks at once, each (name, task, core), until every one has reached the goal or taken its steps."""
    with ExitStack() as stack:
        running = {}
        for name, task, core in tasks:
            began = time.monotonic()
            worker = stack.enter_context(Worker(task, frozenset({core})))
            running[worker.connection] = (name, core, worker, began)
        while running:
            for connection in wait(list(running)):
                name, core, worker, began = running[connection]
                env_steps, at, mean, took = worker.answer()
                write(name, core, env_steps, at - began, mean, took)
                if mean >= goal or env_steps >= most:
                    del running[connection]
                else:
                    worker.ask(0.0)


def main() -> None:
    parser = sheet.parser(__file__, __doc__)
    parser.add_argument("--contenders", nargs="+", choices=list(TASKS), default=["estep", "sbx-rl"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run of each contender for each (0)")
    parser.add_argument("--goal", type=float, default=5_000.0, help="return to reach (5,000)")
    parser.add_argument("--max-steps", type=int, default=500_000, help="give up after so many (500,000)")
    parser.add_argument("--eval-every", type=int, default=5_000, help="environment steps between evaluations (5,000)")
    parser.add_argument("--episodes", type=int, default=5, help="of an evaluation (5)")
    parser.add_argument("--warmup-steps", type=int, default=10_000, help="random steps first (10,000)")
    parser.add_argument("--cores", type=int, nargs="+", default=usable(), help=PIN)
    parser.add_argument("--together", action="store_true", help="run the contenders of a seed at once")
    args = parser.parse_args()
    if args.together and len(set(args.cores)) < len(args.contenders):
        parser.error("--together needs a core in --cores for every contender")

    def write(seed: int, name: str, core: int, env_steps: int, wall: float, mean: float, took: float) -> None:
        row = {"contender": name, "seed": str(seed), "env_steps": str(env_steps), "wall_s": f"{wall:.2f}"}
        row |= {"eval_mean": f"{mean:.1f}", "eval_s": f"{took:.2f}", "core": str(core)}
        row |= {
            "together": str(int(args.together)),
            "random_steps": str(args.warmup_steps),
            "episodes": str(args.episodes),
        }
        sheet.write(args.out, [row], sheet.machine())
        print(f"{name}, seed {seed}: {env_steps:,} steps, {wall:.0f} s, return {mean:.0f}", flush=True)

    for seed in args.seeds:
        shared = (seed, args.eval_every, args.episodes, args.warmup_steps)
        cores = args.cores if args.together else args.cores[:1] * len(args.contenders)
        tasks = [
            (name, ft.partial(TASKS[name], *shared), core) for name, core in zip(args.contenders, cores, strict=False)
        ]
        for group in [tasks] if args.together else [[task] for task in tasks]:
            follow(group, args.goal, args.max_steps, ft.partial(write, seed))


if __name__ == "__main__":
    main()
