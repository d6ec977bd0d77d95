"""Evaluates a policy, in environments that are not used for training."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
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
        env: environments that are not trained in, at most as many as episodes.
        episodes: how many episodes; environment i runs every E-th of them.
        seed: seed of the random numbers of inference and of sampled actions.
        scaling: mean and scale of observations.
        deterministic: whether the action is squash(mode of q); otherwise it is sampled from q.
        first_episode: number of the first episode of each environment, which determines its seed.

    Raises:
        EnvironmentFailure: the environment raised or gave too many bad transitions.
    """
    rounds = -(-episodes // env.num_envs)
    done: list[Episode] = []
    env.finished()  # what an earlier evaluation left
    key, obs, step = key_of(seed, EVALUATE), env.reset(first_episode), 0
    while any(sum(e.env == i for e in done) < rounds for i in range(env.num_envs)):
        number = np.uint32(step)
        action = actor.mode(obs, key, number, scaling) if deterministic else actor.draw(obs, key, number, scaling)[1]
        obs = env.step(np.asarray(action)).obs
        done += env.finished()
        step += 1
    return scores_of(done, env, episodes)


def scores_of(done: Sequence[Episode], env: HostEnv, episodes: int) -> Evaluation:
    """The evaluation of the first episodes of each environment, in the order of their seeds.

    Args:
        done: finished episodes, equally many of each environment or more.
        env: the environments.
        episodes: how many episodes count.
    """
    rounds = -(-episodes // env.num_envs)
    ordered = sorted((e for e in done), key=lambda e: (e.number, e.env))
    first = [e for e in ordered if sum(o.env == e.env and o.number < e.number for o in ordered) < rounds][:episodes]
    returns, lengths, cut = [e.total for e in first], [e.length for e in first], sum(e.cut for e in first)
    if cut:
        warnings.warn(
            f"{env.name}: {cut} of {episodes} evaluation episodes were cut after {max(lengths):,} steps, so their "
            "returns lack what comes later. Give a larger --max-episode-steps (max_episode_steps).",
            RuntimeWarning,
            stacklevel=2,
        )
    known = [e.success for e in first if e.success is not None]
    success = float(np.mean(known)) if known else None
    return Evaluation(float(np.mean(returns)), float(np.std(returns)), returns, lengths, cut, success)
