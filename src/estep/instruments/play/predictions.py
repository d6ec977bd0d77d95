"""How well a learned model of the environment predicts the agent's own episodes: states, rewards, and where they end.

From states of new episodes the model imagines the steps that followed, with the actions that were taken. Imagined
states are sampled as inference samples them: each sample follows one member throughout. Their mean is compared with the
states that came, and so is the central interval that should contain nine of ten. That shows whether the model is as
sure as it may be. For the probability that an episode goes on, steps with similar predictions are counted together: of
those with a predicted probability of 0.1 to end there, one in ten should.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.model import Model
from estep.core.types import Action, Key, Obs, Squash
from estep.envs.base import HostEnv
from estep.errors import UsageError
from estep.instruments.interval import interval_of_clusters, share_limits
from estep.instruments.play.rollouts import Episode, rollouts
from estep.instruments.states import evenly_spaced
from estep.likelihoods.dynamics import WorldModel
from estep.policy.actor import Scaling

STEPS = 10
"""Number of imagined steps."""
SAMPLES = 99
"""Least number of imagined states: between the 5th and the 95th of 99 are nine of ten further ones, on average."""
TAIL = 0.05
"""Share of imagined states on each side of the interval."""
EDGES = (0.0, 1e-3, 1e-2, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Limits of the predicted probabilities to end that are counted together."""
BATCH = 16
"""Number of states whose samples are in memory together."""


class Error(NamedTuple):
    """The model after so many imagined steps. Intervals are 95 % over states, with episodes as clusters."""

    steps: int
    error: float
    """Mean distance of the mean of imagined states from the state that came, for each number of the observation, in its
    standard deviations over the episodes."""
    low: float
    high: float
    unchanged: float
    """The same distance for a prediction that nothing changes."""
    coverage: float
    """Share of the numbers that lie in the central interval of imagined states."""
    coverage_low: float
    coverage_high: float
    wanted: float
    """The share of a model that is right."""
    reward: float
    """Mean distance of the expected reward of the last step from the one that came, in standard deviations of the
    rewards."""
    reward_low: float
    reward_high: float
    states: int
    """Number of states whose episodes have as many further steps."""


class Ending(NamedTuple):
    """Steps with similar predicted probabilities to end the episode there."""

    above: float
    """Limits of the predicted probability."""
    below: float
    predicted: float
    """Mean of the predicted probability."""
    ended: float
    """Share of the steps that ended their episode, with a 95 % interval (Wilson)."""
    low: float
    high: float
    steps: int


class Predictions(NamedTuple):
    """What a model predicts of the agent's own episodes."""

    errors: list[Error]
    endings: list[Ending]
    episodes: int
    members: int
    predicted_ends: float
    """The sum over all steps of the predicted probability to end."""
    ends: int
    """Number of episodes that ended in a terminal state. A time limit is no end."""


def predictions(
    agent: Agent, env: HostEnv, scaling: Scaling, key: Key, episodes: int, states: int, steps: int = STEPS
) -> Predictions:
    """Play episodes of the agent, and compare them with what its model predicts.

    Args:
        agent: an agent with a model of the environment.
        env: new environments of the evaluation stream.
        scaling: mean and scale of observations.
        key: key of the random numbers.
        episodes: how many.
        states: how many states are starts of imagined steps; they are evenly spaced over all episodes.
        steps: how many steps are imagined from each.

    Raises:
        UsageError: the agent has no model.
        EnvironmentFailure: the environment raised or gave too many bad transitions.
    """
    model = model_of(agent)
    k_play, k_imagine = jax.random.split(key)
    played = rollouts(agent, env, scaling, k_play, episodes)
    return compare(model, agent.spec.squash, played, k_imagine, states, steps)


def model_of(agent: Agent) -> Model:
    """The model that an agent learns beside its critic. Raises UsageError if there is none."""
    likelihood = agent.likelihood.model
    if not isinstance(likelihood, WorldModel):
        raise UsageError("This run has no model of the environment.", "Inspect a run with one, such as a run of mve.")
    model: Model = likelihood.dynamics
    return model


def compare(
    model: Model, squash: Squash, played: Sequence[Episode], key: Key, states: int, steps: int = STEPS
) -> Predictions:
    """What a model predicts of episodes. The arguments are as in `predictions`; `squash` makes actions of points u."""
    paths = [np.concatenate([one.obs, one.last[None]]) for one in played]
    whole = np.concatenate(paths).astype(np.float64)
    found = [(i, t) for i, one in enumerate(played) for t in range(len(one.reward))]
    starts = evenly_spaced(np.asarray(found), states)
    windows = [_window(played[i], paths[i], int(t), steps) for i, t in starts]
    obs, action, reward, known = (np.stack(column) for column in zip(*windows, strict=True))
    imagined = imagine(model, squash, jnp.asarray(obs[:, 0]), jnp.asarray(action), key)
    scales = _scale(whole), float(_scale(np.concatenate([one.reward for one in played])))
    errors = [
        _error(k, starts[known[:, k], 0], _of_step(imagined, obs, reward, known, k), scales, model.members)
        for k in range(steps)
        if known[:, k].any()
    ]
    chance = np.concatenate([np.asarray(end_chance(model, squash, one.obs, one.action)) for one in played])
    ended = np.concatenate([np.arange(len(one.reward)) == len(one.reward) - 1 for one in played])
    ended &= np.concatenate([np.full(len(one.reward), one.terminated) for one in played])
    return Predictions(
        errors, reliability(chance, ended), len(played), model.members, float(chance.sum()), int(ended.sum())
    )


class Imagined(NamedTuple):
    """What a model imagines after each of k steps, from each of n states."""

    mean: Float[Array, "n k o"]
    low: Float[Array, "n k o"]
    """The lower limit of the central interval of imagined states."""
    high: Float[Array, "n k o"]
    reward: Float[Array, "n k"]
    """The expected reward of the step."""


@jax.jit
def imagine(
    model: Model, squash: Squash, obs: Float[Array, "n o"], action: Float[Array, "n k a"], key: Key
) -> Imagined:
    """Imagine steps with given actions.

    Args:
        model: the model.
        squash: makes actions of points u.
        obs: the states to start from.
        action: the points u of each step.
        key: a random key.
    """
    each = samples_per_member(model.members)
    tail = round(TAIL * (each * model.members + 1))

    def path(obs: Obs, action: Float[Array, "k a"], member: Array, key: Key) -> tuple[Array, Array]:
        def step(obs: Obs, given: tuple[Action, Key]) -> tuple[Obs, tuple[Array, Array]]:
            found = model.predict(obs, squash(given[0]), member)
            after = found.mean + found.std * jax.random.normal(given[1], found.mean.shape, found.mean.dtype)
            return after, (after, found.reward)

        _, (states, rewards) = jax.lax.scan(step, obs, (action, jax.random.split(key, action.shape[0])))
        return states, rewards

    def in_state(given: tuple[Obs, Array, Key]) -> Imagined:
        obs, action, key = given

        def of_member(member: Array, keys: Key) -> tuple[Array, Array]:
            return jax.vmap(lambda key: path(obs, action, member, key))(keys)

        keys = jax.random.split(key, (model.members, each))
        states, rewards = jax.vmap(of_member)(jnp.arange(model.members), keys)
        ordered = jnp.sort(states.reshape(-1, *states.shape[2:]), axis=0)
        return Imagined(ordered.mean(0), ordered[tail - 1], ordered[-tail], rewards.mean((0, 1)))

    given = obs, action, jax.random.split(key, obs.shape[0])
    found: Imagined = jax.lax.map(in_state, given, batch_size=BATCH)
    return found


def samples_per_member(members: int) -> int:
    """How many samples follow each member."""
    return -(-SAMPLES // members)


def wanted_coverage(members: int) -> float:
    """The share of further samples between the limits of the central interval."""
    count = samples_per_member(members) * members + 1
    return 1.0 - 2.0 * round(TAIL * count) / count


@jax.jit
def end_chance(model: Model, squash: Squash, obs: Float[Array, "t o"], action: Float[Array, "t a"]) -> Array:
    """The probability that the episode ends with each step [t], by the mean of the members."""

    def in_step(obs: Obs, action: Action) -> Array:
        members = jnp.arange(model.members)
        going_on = jax.vmap(lambda member: model.predict(obs, squash(action), member).go_on)(members)
        return (1.0 - going_on).mean()  # one less their mean may be below 0, by rounding

    chance: Array = jax.vmap(in_step)(obs, action)
    return chance


def reliability(chance: npt.NDArray[Any], ended: npt.NDArray[np.bool_]) -> list[Ending]:
    """How often episodes ended, by the predicted probability.

    Args:
        chance: the predicted probability to end with each step.
        ended: whether the episode ended with it.
    """
    place = np.clip(np.searchsorted(EDGES, chance, side="right") - 1, 0, len(EDGES) - 2)
    rows = []
    for i in np.unique(place):
        count, hits = int((place == i).sum()), int(ended[place == i].sum())
        share, mean = hits / count, float(chance[place == i].mean())
        rows.append(Ending(EDGES[i], EDGES[i + 1], mean, share, *share_limits(share, count), count))
    return rows


def _window(episode: Episode, path: npt.NDArray[Any], start: int, steps: int) -> tuple[Any, ...]:
    """States [k + 1, o], points u [k, a], rewards [k] from a step on, and which of the k steps the episode has. What is
    beyond its end repeats the last ones."""
    at = start + np.arange(steps)
    known = at < len(episode.reward)
    here = np.minimum(at, len(episode.reward) - 1)
    states = path[np.minimum(start + np.arange(steps + 1), len(path) - 1)]
    return states, episode.action[here], episode.reward[here], known


def _scale(values: npt.NDArray[Any]) -> Any:
    """Standard deviations, with 1 for what never changes."""
    std = np.asarray(values, np.float64).std(0)
    return np.where(std > 1e-6, std, 1.0)


def _of_step(imagined: Imagined, obs: Any, reward: Any, known: Any, k: int) -> tuple[Any, ...]:
    """What was imagined and what came in the step k + 1, where the episode has it: mean, low, high, reward, first
    state, state, reward."""
    rows = known[:, k]
    columns = (*(each[:, k] for each in imagined), obs[:, 0], obs[:, k + 1], reward[:, k])
    return tuple(np.asarray(each, np.float64)[rows] for each in columns)


def _error(
    k: int, episode: npt.NDArray[np.int64], numbers: tuple[Any, ...], scales: tuple[Any, float], members: int
) -> Error:
    mean, low, high, foreseen, first, came, reward = numbers
    inside = ((came >= low) & (came <= high)).mean(1)
    return Error(
        k + 1,
        *interval_of_clusters((np.abs(mean - came) / scales[0]).mean(1), episode),
        float((np.abs(first - came) / scales[0]).mean()),
        *interval_of_clusters(inside, episode),
        wanted_coverage(members),
        *interval_of_clusters(np.abs(foreseen - reward) / scales[1], episode),
        len(came),
    )
