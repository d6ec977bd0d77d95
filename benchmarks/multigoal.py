"""Where a trained policy goes among four goals that are equally far.

Rolls it out from the origin, drawing its actions, and writes one line per episode and a figure of the paths. Run as

    estep train sql --env estep/MultiGoal-v0 --seed 0
    python benchmarks/multigoal.py runs/sql/estep-MultiGoal-v0/latest results/multigoal
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from estep.envs.multigoal import GOALS, HALF_WIDTH, ID, REACHED, goal_of
from estep.experiment.policy import Policy, load

NOWHERE = -1


class Rollouts(NamedTuple):
    """n episodes: all their places, how long they are, what they earned and which goal they reached."""

    place: np.ndarray
    """[n, 31, 2]; after the end, the last place."""
    length: np.ndarray
    total: np.ndarray
    goal: np.ndarray


def roll_out(policy: Policy, episodes: int, seed: int) -> Rollouts:
    """Episodes from the origin, side by side."""
    envs = [gymnasium.make(ID) for _ in range(episodes)]
    starts = [env.reset(seed=seed, options={"place": (0.0, 0.0)})[0] for env in envs]
    limit = envs[0].spec.max_episode_steps
    place = np.repeat(np.stack(starts)[:, None], limit + 1, axis=1)
    length, total = np.full(episodes, limit), np.zeros(episodes)
    for t in range(limit):
        action = policy.act(place[:, t], deterministic=False, seed=seed, counter=t)
        for i in np.flatnonzero(length == limit):
            place[i, t + 1 :], reward, terminated, _, _ = envs[i].step(action[i])
            total[i] += reward
            length[i] = t + 1 if terminated else limit
    return Rollouts(place, length, total, np.array([goal_of(path[-1]) for path in place]))


def draw(rollouts: Rollouts, path: Path) -> None:
    """The paths, by the goal they reach."""
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.add_subplot(aspect="equal", xlim=(-HALF_WIDTH, HALF_WIDTH), ylim=(-HALF_WIDTH, HALF_WIDTH))
    for goal in (NOWHERE, *range(len(GOALS))):
        colour = "0.6" if goal == NOWHERE else f"C{goal}"
        for place in rollouts.place[rollouts.goal == goal]:
            axes.plot(*place.T, color=colour, linewidth=0.6, alpha=0.5)
    for x, y in GOALS:
        axes.add_patch(Circle((x, y), REACHED, fill=False, color="black"))
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("out", type=Path)
    parser.add_argument("--checkpoint", default="latest", help="best, latest, or a number of steps")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rollouts = roll_out(load(args.run, args.checkpoint), args.episodes, args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "rollouts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["episode", "goal", "length", "return"])
        for i, (goal, length, total) in enumerate(zip(rollouts.goal, rollouts.length, rollouts.total, strict=True)):
            writer.writerow([i, goal, length, f"{total:.2f}"])
    draw(rollouts, args.out / "rollouts.png")
    shares = {goal: float((rollouts.goal == goal).mean()) for goal in (NOWHERE, *range(len(GOALS)))}
    print("shares", shares, "return", rollouts.total.mean())


if __name__ == "__main__":
    main()
