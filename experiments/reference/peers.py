"""An algorithm of sbx-rl on one task, evaluated as often and as long as the runs of estep beside it.

It writes evaluations.csv into a folder, in the columns of `estep compare`. What is finished is not made again. It needs
sbx-rl and gymnasium[mujoco], and not estep. Run as

    python experiments/reference/peers.py OUT sbx-sac --env Walker2d-v5 --seed 0
"""

from __future__ import annotations

import argparse
import csv
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import sbx
from stable_baselines3.common.callbacks import BaseCallback

PEERS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "sbx-sac": (sbx.SAC, "MlpPolicy", {}),
    "sbx-crossq": (sbx.CrossQ, "MlpPolicy", {}),
    "sbx-tqc": (sbx.TQC, "MlpPolicy", {}),
    "sbx-droq": (sbx.SAC, "MlpPolicy", {"policy_kwargs": {"dropout_rate": 0.01, "layer_norm": True}}),
    "sbx-simba": (sbx.SAC, "SimbaPolicy", {}),
}
"""Class, policy and options. All else is the library's default: one update a step, batches of 256."""
COLUMNS = ("env", "algorithm", "settings", "seed", "env_steps", "updates", "mean", "std", "episodes")
TABLE = "evaluations.csv"


class Evaluate(BaseCallback):
    """Plays episodes of the deterministic policy at intervals, and writes a row each time."""

    def __init__(self, args: argparse.Namespace, path: Path, settings: str) -> None:
        super().__init__()
        self.args, self.path, self.settings = args, path, settings
        self.env = gymnasium.make(args.env)
        self.env.reset(seed=10_000 + args.seed)
        self.rows: list[tuple[Any, ...]] = []

    def _on_step(self) -> bool:
        if self.num_timesteps % self.args.every == 0:
            found = [self.episode() for _ in range(self.args.episodes)]
            updates = int(self.model._n_updates)
            about = self.args.env, self.args.peer, self.settings, self.args.seed, self.num_timesteps, updates
            self.rows.append((*about, np.mean(found), np.std(found), len(found)))
            with self.path.open("w", newline="") as file:
                csv.writer(file).writerows([COLUMNS, *self.rows])
            print(f"{self.num_timesteps:,} steps: {np.mean(found):.1f}", flush=True)
        return True

    def episode(self) -> float:
        """The return of an episode that no other evaluation had."""
        (obs, _), total, over = self.env.reset(), 0.0, False
        while not over:
            action, _ = self.model.predict(obs, deterministic=True)
            obs, reward, terminated, truncated, _ = self.env.step(action)
            total, over = total + float(reward), terminated or truncated
        return total


def finished(path: Path, steps: int) -> bool:
    """Whether a table has an evaluation after so many steps."""
    if not path.exists():
        return False
    with path.open(newline="") as file:
        return any(int(row["env_steps"]) >= steps for row in csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--env", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=300_000)
    parser.add_argument("--warmup-steps", type=int, default=5000)
    parser.add_argument("--every", type=int, default=10_000, help="steps from one evaluation to the next")
    parser.add_argument("--episodes", type=int, default=10)
    args = parser.parse_args()
    path = args.out / TABLE
    if finished(path, args.steps):
        return
    args.out.mkdir(parents=True, exist_ok=True)
    algorithm, policy, options = PEERS[args.peer]
    told = {"library": f"sbx-rl {metadata.version('sbx-rl')}", "warmup_steps": args.warmup_steps, **options}
    model = algorithm(policy, gymnasium.make(args.env), seed=args.seed, learning_starts=args.warmup_steps, **options)
    model.learn(args.steps, callback=Evaluate(args, path, json.dumps(told)))


if __name__ == "__main__":
    main()
