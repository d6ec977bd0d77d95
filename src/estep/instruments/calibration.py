"""Over-estimation Q̂ - G: predictions minus Monte-Carlo returns at the pairs (s, a) of whole episodes of the policy.

If the critic bootstraps from the posterior, the return is soft. It contains the KL of later steps, not of step t:

    G_t = r_t + Σ_{k>t} γ^{k-t} (r_k - α KL_k)

If the critic bootstraps from the prior, the return is the plain one, the discounted sum of rewards. So it is where the
policy is a sampler without a density (sql), although Q̂ has its KL as a cost: Q̂ - G is then too low by α KL.

If a time limit ends an episode, the return contains the critic's value V̄ of the last observation, as the critic's
targets do. The error of V̄ has the weight γ^(steps left), so pairs with a larger weight than a tolerance are left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.bootstrap import posterior_value, prior_value
from estep.core.keys import make_key
from estep.core.types import Action, Key, Obs, Scalar, Transition
from estep.e_steps.plans import proposing
from estep.envs.base import HostEnv
from estep.errors import UsageError
from estep.instruments.interval import interval
from estep.instruments.play.rollouts import Episode, has_soft_critic, rollouts
from estep.likelihoods.imagined import critic_of
from estep.likelihoods.q_function import MeanMinusStd, biased_std
from estep.policy.actor import Scaling

TAIL = 0.2
"""Largest weight of the bootstrap at a time limit in a return."""
PAIRS = 50
"""Largest number of pairs of an episode. They are evenly spaced."""
BETAS = (0.0, 0.5, 1.0, 1.41, 2.12, 3.54)
"""Values of β with which the bias of the same networks is computed, in addition to the agent's β."""


class Pair(NamedTuple):
    """Q̂ and the return at one pair (s, a) of an episode."""

    episode: int
    step: int
    predicted: float
    """Q̂(s, a)."""
    mean: float
    """Mean of the ensemble."""
    std: float
    """Standard deviation of the ensemble (ddof 0)."""
    earned: float
    """The return G."""
    tail: float
    """Weight of the bootstrap in the return."""


class Bias(NamedTuple):
    """The mean of Q̂ - G over pairs for one β, with a 95 % interval over episodes."""

    beta: float
    """Q̂ = mean - β std; NaN if the agent's rule has no β."""
    own: bool
    """Whether this is the agent's β."""
    mean: float
    low: float
    high: float


class Calibration(NamedTuple):
    """Predictions, returns and their mean difference."""

    pairs: list[Pair]
    biases: list[Bias]
    """The bias for the agent's β is first."""
    soft: bool
    """Whether the return contains the KL."""
    knows_kl: bool = True
    """False if Q̂ contains a KL that the return does not, because the policy has no density."""

    @property
    def kind(self) -> str:
        """The return, in words."""
        if not self.knows_kl:
            return "plain return (Q̂ has the KL as a cost, and this policy has no density to know it)"
        return "soft return" if self.soft else "plain return"


@runtime_checkable
class Ensemble(Protocol):
    """A critic of several networks whose values are discounted returns."""

    gamma: Any
    pessimism: Any

    def values(self, obs: Obs, action: Action) -> Float[Array, " k"]:
        """The value of each member at the point u."""


def calibration(
    agent: Agent, env: HostEnv, scaling: Scaling, key: Key, episodes: int, betas: tuple[float, ...] = BETAS
) -> Calibration:
    """Run episodes of the stochastic policy and compare Q̂ with their returns.

    Args:
        agent: the agent. One that acts by plans acts here without them, since Q̂ is the value of its policy.
        env: new environments of the evaluation stream.
        scaling: mean and scale of observations.
        key: key of the random numbers.
        episodes: how many episodes.
        betas: further values of β for which the bias is computed.

    Raises:
        UsageError: the critic is not an ensemble of Q functions, or the episodes are too short for γ.
        EnvironmentFailure: the environment raised or gave too many bad transitions.
    """
    agent, gamma = proposing(agent), float(critic(agent).gamma)
    k_act, k_tail = jax.random.split(key)
    done = rollouts(agent, env, scaling, k_act, episodes)
    tails = np.asarray(_tails(agent, jnp.asarray(np.stack([e.last for e in done])), k_tail), np.float64)
    pairs: list[Pair] = []
    for number, (episode, tail) in enumerate(zip(done, tails, strict=True)):
        pairs += _pairs(agent, number, episode, 0.0 if episode.terminated else float(tail), gamma)
    if not pairs:
        longest = max(len(episode.reward) for episode in done)
        what = f"Episodes of at most {longest} steps are too short to measure returns with gamma {gamma:g}."
        raise UsageError(what, "Use an environment with longer episodes.")
    soft = has_soft_critic(agent)
    policy: Any = jax.eval_shape(lambda agent, obs: agent.behave(agent, obs, key), agent, jnp.asarray(done[0].last))
    return Calibration(pairs, biases(pairs, agent, betas), soft and policy.knows_ratio, not soft or policy.knows_ratio)


def critic(agent: Agent) -> Ensemble:
    """The agent's critic as an ensemble. Raises UsageError if it is not an ensemble."""
    model = critic_of(agent.likelihood.model)
    if not isinstance(model, Ensemble):
        what = f"The critic {type(model).__name__} does not say what its networks predict for a pair (s, a)."
        fix = "Inspect a run with Q functions, or give one of your own gamma, pessimism and values(obs, action)."
        raise UsageError(what, fix)
    return model


def members(agent: Agent) -> int:
    """Number of networks of the critic."""
    shapes = (agent.spec.obs_dim, agent.spec.action_dim)
    return int(jax.eval_shape(critic(agent).values, *(jnp.zeros(size) for size in shapes)).shape[0])


def returns(reward: npt.NDArray[np.float64], cost: npt.NDArray[np.float64], tail: float, gamma: float) -> Any:
    """G_t for every step of an episode [t]. The return of a step does not contain the step's own cost.

    Args:
        reward, cost: [t].
        tail: value of the state after the episode.
        gamma: discount factor γ per step.
    """
    earned, after = np.empty_like(reward), tail
    for t in reversed(range(len(reward))):
        earned[t] = reward[t] + gamma * after
        after = earned[t] - cost[t]
    return earned


def biases(pairs: list[Pair], agent: Agent, betas: tuple[float, ...]) -> list[Bias]:
    """The mean of Q̂ - G for the agent's β and for other β.

    Args:
        pairs: predictions and returns; each episode has the same weight.
        agent: the agent.
        betas: the other β.
    """
    model = critic(agent)
    episode = np.asarray([pair.episode for pair in pairs])
    predicted, mean, std, earned = (
        np.asarray([getattr(pair, name) for pair in pairs]) for name in ("predicted", "mean", "std", "earned")
    )

    def over_episodes(error: npt.NDArray[np.float64]) -> tuple[float, float, float]:
        return interval([error[episode == number].mean() for number in np.unique(episode)])

    own = model.pessimism.beta if isinstance(model.pessimism, MeanMinusStd) else float("nan")
    others = betas if members(agent) > 1 else ()
    return [
        Bias(float(own), True, *over_episodes(predicted - earned)),
        *(Bias(beta, False, *over_episodes(mean - beta * std - earned)) for beta in others),
    ]


def _pairs(agent: Agent, number: int, episode: Episode, tail: float, gamma: float) -> list[Pair]:
    """At most PAIRS pairs of an episode, among those where the bootstrap has a small weight in the return."""
    length = len(episode.reward)
    weight = 0.0 * np.arange(length) if episode.terminated else gamma ** (length - np.arange(length))
    fit = np.flatnonzero(weight <= TAIL)
    steps = fit[np.linspace(0, len(fit) - 1, min(PAIRS, len(fit))).astype(int)] if len(fit) else fit
    if not len(steps):
        return []
    at = np.resize(steps, PAIRS)  # one shape, so one compiled program
    predicted, mean, std = (
        np.asarray(part, np.float64) for part in _predict(agent, episode.obs[at], episode.action[at])
    )
    earned = returns(episode.reward, episode.cost, tail, gamma)
    return [
        Pair(number, int(t), float(predicted[i]), float(mean[i]), float(std[i]), float(earned[t]), float(weight[t]))
        for i, t in enumerate(steps)
    ]


@jax.jit
def _tails(agent: Agent, obs: Array, key: Key) -> Array:
    """The value of each state from which the critic bootstraps. It uses new inference, because a stored λ belongs to
    another state."""
    bootstrap = posterior_value(agent) if has_soft_critic(agent) else prior_value(agent)

    def in_state(obs: Obs, key: Key) -> Scalar:
        nought = jnp.zeros(())
        arrival = Transition(obs, jnp.zeros(agent.spec.action_dim), nought, nought + 1.0, obs, nought)
        return bootstrap.value(arrival, key)

    values: Array = jax.vmap(in_state)(obs, jax.random.split(key, obs.shape[0]))
    return values


@jax.jit
def _predict(agent: Agent, obs: Array, action: Array) -> tuple[Array, Array, Array]:
    """Q̂ as inference sees it, and the mean and standard deviation of the critic's ensemble, at each pair."""
    model, estimate = critic(agent), agent.view(agent, critic_of(agent.likelihood.model))

    def in_state(obs: Obs, action: Action) -> tuple[Scalar, Scalar, Scalar]:
        values = model.values(obs, action)
        return estimate(agent.problem(estimate, obs), action, make_key(0)), values.mean(), biased_std(values)

    parts: tuple[Array, Array, Array] = jax.vmap(in_state)(obs, action)
    return parts
