"""Where trained policies go among four goals that are equally far.

Rolls each out from the origin, drawing its actions, and writes a line per episode, the share of each goal in each run,
and a figure of the paths. Run as

    estep train sql --env estep/MultiGoal-v0 --seed 0
    python experiments/multigoal/multigoal.py results/multigoal runs/sql/estep-MultiGoal-v0/latest
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from estep.envs.multigoal import GOALS, HALF_WIDTH, ID, REACHED, goal_of
from estep.policy.policy import Policy, load
from estep.runs import tables

NOWHERE = -1


class Rollouts(NamedTuple):
    """n episodes: all their places, how long they are, what they earned and which goal they reached."""

    place: np.ndarray
    """[n, 31, 2]; after the end, the last place."""
    length: np.ndarray
    total: np.ndarray
    goal: np.ndarray

    @property
    def shares(self) -> list[float]:
        """Of the episodes, those that reach no goal and each of the goals."""
        return [float((self.goal == goal).mean()) for goal in (NOWHERE, *range(len(GOALS)))]


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


def draw(found: Mapping[int, Rollouts], path: Path) -> None:
    """The paths, by the goal they reach: a panel for each seed."""
    figure = Figure(figsize=(3.6 * len(found), 3.8), layout="constrained")
    for axes, (seed, rollouts) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        axes.set(aspect="equal", xlim=(-HALF_WIDTH, HALF_WIDTH), ylim=(-HALF_WIDTH, HALF_WIDTH), title=f"seed {seed}")
        for goal in (NOWHERE, *range(len(GOALS))):
            colour = "0.6" if goal == NOWHERE else f"C{goal}"
            for place in rollouts.place[rollouts.goal == goal]:
                axes.plot(*place.T, color=colour, linewidth=0.6, alpha=0.5)
        for x, y in GOALS:
            axes.add_patch(Circle((x, y), REACHED, fill=False, color="black"))
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", help="of different seeds")
    parser.add_argument("--checkpoint", default="latest", help="best, latest, or a number of steps")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the actions that are drawn")
    args = parser.parse_args()
    policies = [load(run, args.checkpoint) for run in args.runs]
    found = {policy.recipe.run.seed: roll_out(policy, args.episodes, args.seed) for policy in policies}
    args.out.mkdir(parents=True, exist_ok=True)
    episodes = [
        [seed, i, goal, length, f"{total:.2f}"]
        for seed, each in found.items()
        for i, (goal, length, total) in enumerate(zip(each.goal, each.length, each.total, strict=True))
    ]
    tables.write(args.out / "rollouts.csv", ["seed", "episode", "goal", "length", "return"], episodes)
    shares = [[seed, *each.shares, f"{each.total.mean():.2f}"] for seed, each in found.items()]
    goals = [f"{x:g} {y:g}" for x, y in GOALS]
    tables.write(args.out / "shares.csv", ["seed", "none", *goals, "return"], shares)
    draw(found, args.out / "rollouts.png")
    for row in shares:
        print(*row)


if __name__ == "__main__":
    main()
