"""Evaluates a policy, in environments that are not used for training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from estep.envs.base import Episode, HostEnv
from estep.policy.actor import EVALUATE, Actor, Scaling, key_of


class Evaluation(NamedTuple):
    """Undiscounted returns and lengths of whole episodes, in the order of their seeds."""

    mean: float
    std: float
    """Standard deviation over episodes, ddof 0."""
    returns: list[float]
    lengths: list[int]
    cut: int = 0
    """How many episodes estep ended after --max-episode-steps, because the environment did not end them."""
    success: float | None = None
    """Share of successful episodes, of those whose `info` tells it, as `Episode.success` says; else None."""

    tasks: Mapping[str, Evaluation] = {}
    """The evaluation of each task by its name. The mean above is then the mean of their means; the returns are those of
    all tasks, one task after the other."""

    @property
    def success_text(self) -> str:
        """The share of successes as the end of a sentence; empty if it is not known."""
        return "" if self.success is None else f", success {self.success:.0%}"


def evaluate(
    actor: Actor,
    env: HostEnv,
    episodes: int,
    seed: int,
    scaling: Scaling,
    deterministic: bool = True,
    first_episode: int = 0,
) -> Evaluation:
    """Run whole episodes. Equal seeds and equal numbers of the first episode give equal numbers.

    Args:
        actor: the agent that acts.
        env: environments that are not trained in, of each task at most as many as episodes.
        episodes: how many episodes of each task; of its E environments each runs every E-th of them.
        seed: seed of the random numbers of inference and of sampled actions.
        scaling: mean and scale of observations.
        deterministic: whether the action is squash(mode of q); otherwise it is sampled from q.
        first_episode: number of the first episode of each environment, which determines its seed.

    Raises:
        EnvironmentFailure: the environment raised or gave too many bad transitions.
    """
    rounds = -(-episodes // env.per_task)
    done: list[Episode] = []
    counts = [0] * env.num_envs
    env.finished()  # what an earlier evaluation left
    key, obs, step = key_of(seed, EVALUATE), env.reset(first_episode), 0
    while min(counts) < rounds:
        number = np.uint32(step)
        action = actor.mode(obs, key, number, scaling) if deterministic else actor.draw(obs, key, number, scaling)[1]
        obs = env.step(np.asarray(action)).obs
        for episode in env.finished():
            counts[episode.env] += 1
            done.append(episode)
        step += 1
    return scores_of(done, env, episodes)


def scores_of(done: Sequence[Episode], env: HostEnv, episodes: int) -> Evaluation:
    """The evaluation of the first episodes of each environment, in the order of their seeds. It warns of cut ones.

    Args:
        done: finished episodes, of each environment as many as its share or more.
        env: the environments.
        episodes: how many episodes of each task count.
    """
    rounds, counts, first = -(-episodes // env.per_task), [0] * env.num_envs, []
    for episode in sorted(done, key=lambda e: (e.number, e.env)):
        counts[episode.env] += 1
        if counts[episode.env] <= rounds:
            first.append(episode)
    tasks = {task: summary([e for e in first if e.task == task][:episodes]) for task in env.tasks}
    found = over_tasks(tasks) if tasks else summary(first[:episodes])
    if found.cut:
        warnings.warn(
            f"{env.name}: {found.cut} of {len(found.returns)} evaluation episodes were cut after "
            f"{max(found.lengths):,} steps, so their returns lack what comes later. Give a larger --max-episode-steps "
            "(max_episode_steps).",
            RuntimeWarning,
            stacklevel=2,
        )
    return found


def summary(episodes: Sequence[Episode]) -> Evaluation:
    """The evaluation that these episodes are."""
    returns, lengths, cut = [e.total for e in episodes], [e.length for e in episodes], sum(e.cut for e in episodes)
    known = [e.success for e in episodes if e.success is not None]
    success = float(np.mean(known)) if known else None
    return Evaluation(float(np.mean(returns)), float(np.std(returns)), returns, lengths, cut, success)


def over_tasks(tasks: Mapping[str, Evaluation]) -> Evaluation:
    """The evaluation of several tasks: the mean of their means, and the episodes of all."""
    each = tasks.values()
    returns, lengths = [[x for one in each for x in getattr(one, name)] for name in ("returns", "lengths")]
    known = [one.success for one in each if one.success is not None]
    success = float(np.mean(known)) if known else None
    mean, cut = float(np.mean([one.mean for one in each])), sum(one.cut for one in each)
    return Evaluation(mean, float(np.std(returns)), returns, lengths, cut, success, tasks)
