"""The scale of rewards in a run, and checks before and at its first steps: images without a network of one's own, and
numbers that are large."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from estep.core.agent import Agent, Algorithm
from estep.core.optim import ZERO
from estep.core.slots import Prior
from estep.core.types import Floats
from estep.data.normalise import CLIP
from estep.data.rewards import ReturnSpread, Rewards
from estep.envs.actions import BoxActions
from estep.envs.base import HostEnv
from estep.errors import UsageError
from estep.likelihoods.dynamics import WorldModel
from estep.m_steps.temperature import Constant
from estep.priors.levels import LevelPrior
from estep.priors.restricted import Restricted
from estep.priors.tempered import Tempered
from estep.settings.run import RunConfig

LARGE = 1e3
"""Bounds of actions and observations beyond this are warned of."""
WATCHED = 1_000
"""Steps at the beginning of a run whose observations are looked at."""


def rewards_of(algorithm: Algorithm, config: RunConfig, env: HostEnv) -> Rewards:
    """How rewards are scaled in a run.

    Raises:
        UsageError: there are neither one factor nor as many as tasks, or the algorithm has no discount.
    """
    factors = reward_scale(config.reward_scale, env)
    if not config.normalise_rewards:
        return Rewards(factors, None)
    gamma = getattr(algorithm, "gamma", None)
    if gamma is None:
        what = "--normalise-rewards follows discounted returns, and this algorithm has no setting gamma."
        raise UsageError(what, "Give the algorithm a setting gamma, or leave --normalise-rewards out.")
    return Rewards(factors, ReturnSpread(env.num_envs, float(gamma)))


def reward_scale(given: Sequence[float], env: HostEnv) -> Floats | None:
    """The factor of the rewards of each environment [E], or None where rewards stay as they are.

    Raises:
        UsageError: there are neither one factor nor as many as tasks.
    """
    tasks = max(1, len(env.tasks))
    if not given:
        return None
    if len(given) not in (1, tasks):
        what = f"--reward-scale has {len(given)} factors, and there are {tasks} tasks."
        raise UsageError(what, f"Give one factor for all, or one for each of: {', '.join(env.tasks) or env.name}.")
    return np.repeat(np.resize(np.array(given, np.float32), tasks), env.per_task)


def check_image(algorithm: Any, env: HostEnv) -> None:
    """Check that an image goes to a network of the user's own. An algorithm without the setting `features` may do what
    it likes with the pixels.

    Raises:
        UsageError: the observation is an image, and the setting `features` is empty.
    """
    image = env.observation_space.image
    if image is not None and not getattr(algorithm, "features", "own"):
        size = " x ".join(map(str, image.shape))
        raise UsageError(
            f"{image.name[0].upper()}{image.name[1:]} is an image of {size} pixels, which needs a network of your own.",
            "Give a network of your own as features (examples/own_images.py shows one), or wrap the environment in "
            "gymnasium.wrappers.FlattenObservation to train on the pixels as a plain vector.",
        )


def note_agent(agent: Agent, normalise: bool, note: Callable[[str], None]) -> None:
    """Say that a model of the environment learns observations that are clipped, or that a shared prior sees the task.

    Args:
        agent: the agent.
        normalise: whether observations are normalised.
        note: called with a line for the user.
    """
    if normalise and isinstance(agent.likelihood.model, WorldModel):
        note(f"--normalise clips observations to {CLIP:g} standard deviations, and the model learns clipped ones")
    if agent.prior.tx is not ZERO and follows_everywhere(agent.prior.model):
        note(
            "--prior-sees all lets the prior follow the policy in every state, and the price of the KL is fixed: the "
            "KL goes to 0, and no task learns from another by it"
        )


def fixed_price(agent: Agent) -> float:
    """The temperature, in units of reward per nat, where it stays as it is; 0 where it is learned."""
    temperature = agent.temperature.model
    return float(temperature.alpha) if isinstance(temperature, Constant) else 0.0


def follows_everywhere(prior: Prior) -> bool:
    """Whether a prior with prices sees all of the observation, so that nothing keeps it from following the policy."""
    inner = prior.base if isinstance(prior, Tempered) else prior.top if isinstance(prior, LevelPrior) else None
    return inner is not None and not isinstance(inner, Restricted)


def warn_of_bounds(env: HostEnv) -> None:
    """Warn where the bounds of actions are so large that they are rather limits of the type than of the task."""
    space = env.action_space
    if not isinstance(space, BoxActions):
        return
    largest = np.maximum(np.abs(space.low), np.abs(space.high))
    if largest.max() > LARGE:
        i = int(np.argmax(largest))
        warnings.warn(
            f"Action dimension {i} has the bounds [{space.low[i]:g}, {space.high[i]:g}], beyond {LARGE:g}: random "
            "actions at the start are as large. Wrap the environment in gymnasium.wrappers.TransformAction with the "
            "bounds that the task needs.",
            RuntimeWarning,
            stacklevel=2,
        )


class ScaleWatch:
    """Warns once when observations of the first steps are so large that networks learn badly from them."""

    def __init__(self, env: HostEnv, normalise: bool) -> None:
        self.watching = not normalise and env.observation_space.image is None

    def check(self, obs: Floats, step: int) -> None:
        """Look at observations [E, o] of a step, if it is one of the first."""
        if not self.watching:
            return
        self.watching = step < WATCHED
        env, number = np.unravel_index(int(np.abs(obs).argmax()), obs.shape)
        if abs(obs[env, number]) > LARGE:
            self.watching = False
            warnings.warn(
                f"Observation {number} is {obs[env, number]:g}, beyond {LARGE:g}, and networks learn badly from such "
                "numbers. Train with --normalise (normalise=True), which scales them.",
                RuntimeWarning,
                stacklevel=2,
            )
