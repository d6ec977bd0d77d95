"""Whether Q̂ is what the policy earns: predictions against Monte-Carlo returns at the pairs (s, a) that it visits.

In the regularised regime the return is soft, with the KL of every later step and never that of the step itself:

    G_t = r_t + Σ_{k>t} γ^{k-t} (r_k - α KL_k)

and where the critic bootstraps from the prior it is the plain one. An episode that a time limit ends is completed by
the critic's own bootstrap V̄ at its last observation, as its targets are; that carries the critic's error with weight
γ^(steps left), so pairs where this is above a tolerance are left out. Over-estimation is Q̂ - G.
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
from estep.core.types import Action, Key, Obs, Scalar, Transition
from estep.envs.base import HostEnv
from estep.errors import UsageError
from estep.instruments.interval import interval
from estep.likelihoods.q_function import MeanMinusStd, biased_std
from estep.policy.actor import Scaling, scale

KL_DRAWS = 16
"""Of q, for KL(q‖p) at each step where it has no closed form."""
TAIL = 0.2
"""The largest weight that the bootstrap at a time limit may have in a return."""
PAIRS = 50
"""Kept of each episode, evenly spaced."""
BETAS = (0.0, 0.5, 1.0, 1.41, 2.12, 3.54)
"""Pessimism with which the same networks are read, beside the agent's own."""


class Episode(NamedTuple):
    """One episode of the stochastic policy."""

    obs: npt.NDArray[np.float32]
    """[t, o], as the networks see them."""
    action: npt.NDArray[np.float32]
    """[t, a], the points u."""
    reward: npt.NDArray[np.float64]
    cost: npt.NDArray[np.float64]
    """α KL(q‖p) in each state [t]; zero where the KL is no cost."""
    last: npt.NDArray[np.float32]
    """The final observation [o]."""
    terminated: bool


class Pair(NamedTuple):
    """Q̂ and the return at one visited pair (s, a)."""

    episode: int
    step: int
    predicted: float
    """Q̂(s, a)."""
    mean: float
    """Of the ensemble."""
    std: float
    """Over the ensemble (ddof 0)."""
    earned: float
    """G."""
    tail: float
    """The weight of the bootstrap in it."""


class Bias(NamedTuple):
    """The mean of Q̂ - G over pairs, with a 95 % interval over episodes, for one reading of the networks."""

    beta: float
    """Q̂ = mean - β std; NaN for a rule that has no β."""
    own: bool
    """Whether this is how the agent reads them."""
    mean: float
    low: float
    high: float


class Calibration(NamedTuple):
    """Predictions and returns, and what they say together."""

    pairs: list[Pair]
    biases: list[Bias]
    """The agent's own first."""
    soft: bool
    """Whether the KL is in the return."""


@runtime_checkable
class Ensemble(Protocol):
    """A critic of several networks whose values are discounted returns."""

    gamma: Any
    pessimism: Any

    def values(self, obs: Obs, action: Action) -> Float[Array, " k"]:
        """Every member's value at the point u."""


def calibration(
    agent: Agent, env: HostEnv, scaling: Scaling, key: Key, episodes: int, betas: tuple[float, ...] = BETAS
) -> Calibration:
    """Run episodes of the stochastic policy and hold Q̂ against what they earn.

    Raises:
        UsageError: the critic is no ensemble of Q functions, or a time limit is too short for the discount factor.
        EnvironmentFailure: the environment raised or gave too many bad transitions.
    """
    gamma = float(critic(agent).gamma)
    k_act, k_tail = jax.random.split(key)
    found = rollouts(agent, env, scaling, k_act, episodes)
    tails = np.asarray(_tails(agent, jnp.asarray(np.stack([e.last for e in found])), k_tail), np.float64)
    pairs: list[Pair] = []
    for number, (episode, tail) in enumerate(zip(found, tails, strict=True)):
        pairs += _pairs(agent, number, episode, 0.0 if episode.terminated else float(tail), gamma)
    if not pairs:
        longest = max(len(episode.reward) for episode in found)
        what = f"With gamma {gamma:g}, an episode of {longest} steps says too little of what comes after it."
        raise UsageError(what, "Use an environment whose episodes are longer.")
    return Calibration(pairs, biases(pairs, agent, betas), charged(agent))


def critic(agent: Agent) -> Ensemble:
    """The agent's critic as an ensemble. Raises UsageError if it is none."""
    model = agent.likelihood.model
    if not isinstance(model, Ensemble):
        raise UsageError(
            f"{type(model).__name__} predicts no return of a pair (s, a).", "Inspect a run with Q functions."
        )
    return model


def members(agent: Agent) -> int:
    """How many networks the critic has."""
    shapes = (agent.spec.obs_dim, agent.spec.action_dim)
    return int(jax.eval_shape(critic(agent).values, *(jnp.zeros(size) for size in shapes)).shape[0])


def charged(agent: Agent) -> bool:
    """Whether the KL of later steps is a cost in this agent's values."""
    return agent.bootstrap(agent).soft


def rollouts(agent: Agent, env: HostEnv, scaling: Scaling, key: Key, episodes: int) -> list[Episode]:
    """Whole episodes of the stochastic policy, as many from each environment, without those of bad transitions."""
    rounds = -(-episodes // env.num_envs)
    open_: list[list[tuple[Any, ...]]] = [[] for _ in range(env.num_envs)]
    done: list[list[Episode]] = [[] for _ in range(env.num_envs)]
    obs, count = env.reset(), 0
    while min(map(len, done)) < rounds:
        seen, u, action, cost = map(np.asarray, _act(agent, obs, jax.random.fold_in(key, count), scaling))
        step = env.step(action)
        after = np.asarray(scale(jnp.asarray(step.next_obs), scaling))
        for i, steps in enumerate(open_):
            steps.append((seen[i], u[i], step.reward[i], cost[i]))
            if step.terminated[i] or step.truncated[i]:
                if step.valid[i]:
                    columns = [np.stack(column) for column in zip(*steps, strict=True)]
                    reward, price = columns[2].astype(np.float64), columns[3].astype(np.float64)
                    done[i].append(Episode(columns[0], columns[1], reward, price, after[i], bool(step.terminated[i])))
                open_[i] = []
        obs, count = step.obs, count + 1
    return [each[number] for number in range(rounds) for each in done][:episodes]


def returns(reward: npt.NDArray[np.float64], cost: npt.NDArray[np.float64], tail: float, gamma: float) -> Any:
    """G_t for every step of an episode [t]; `tail` is the value of the state after it. The cost of a step is not in its
    own return."""
    earned, after = np.empty_like(reward), tail
    for t in reversed(range(len(reward))):
        earned[t] = reward[t] + gamma * after
        after = earned[t] - cost[t]
    return earned


def biases(pairs: list[Pair], agent: Agent, betas: tuple[float, ...]) -> list[Bias]:
    """The mean of Q̂ - G over episodes' means, as the agent reads its networks and for other β."""
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
    """The pairs of an episode whose return hangs little on the bootstrap, thinned out."""
    length = len(episode.reward)
    weight = 0.0 * np.arange(length) if episode.terminated else gamma ** (length - np.arange(length))
    fit = np.flatnonzero(weight <= TAIL)
    kept = fit[np.linspace(0, len(fit) - 1, min(PAIRS, len(fit))).astype(int)] if len(fit) else fit
    if not len(kept):
        return []
    at = np.resize(kept, PAIRS)  # one shape, so one compiled program
    predicted, mean, std = (
        np.asarray(part, np.float64) for part in _predict(agent, episode.obs[at], episode.action[at])
    )
    earned = returns(episode.reward, episode.cost, tail, gamma)
    return [
        Pair(number, int(t), float(predicted[i]), float(mean[i]), float(std[i]), float(earned[t]), float(weight[t]))
        for i, t in enumerate(kept)
    ]


@jax.jit
def _act(agent: Agent, obs: Array, key: Key, scaling: Scaling) -> tuple[Array, Array, Array, Array]:
    """States as the networks see them, points u, actions, and α KL(q‖p), in each of e states."""
    obs = scale(obs, scaling)

    def one(obs: Obs, key: Key) -> tuple[Action, Action, Scalar]:
        k_infer, k_sample, k_kl = jax.random.split(key, 3)
        q = agent.behave(agent, obs, k_infer)
        u = q.sample(k_sample)
        if not charged(agent):
            return u, agent.spec.squash(u), jnp.zeros(())
        problem = agent.problem(agent.likelihood.model, obs)
        draws = q.draw(k_kl, KL_DRAWS, problem.prior(obs))
        return u, agent.spec.squash(u), problem.alpha * (draws.weight @ draws.log_ratio)

    u, action, cost = jax.vmap(one)(obs, jax.random.split(key, obs.shape[0]))
    return obs, u, action, cost


@jax.jit
def _tails(agent: Agent, obs: Array, key: Key) -> Array:
    """What the critic bootstraps from in each state, inferred there and then: a kept λ is of another state."""
    bootstrap = posterior_value(agent) if charged(agent) else prior_value(agent)

    def one(obs: Obs, key: Key) -> Scalar:
        nought = jnp.zeros(())
        arrival = Transition(obs, jnp.zeros(agent.spec.action_dim), nought, nought + 1.0, obs, nought)
        return bootstrap.value(arrival, key)

    values: Array = jax.vmap(one)(obs, jax.random.split(key, obs.shape[0]))
    return values


@jax.jit
def _predict(agent: Agent, obs: Array, action: Array) -> tuple[Array, Array, Array]:
    """Q̂, and mean and standard deviation of the ensemble, at each pair."""
    model: Any = agent.likelihood.model

    def one(obs: Obs, action: Action) -> tuple[Scalar, Scalar, Scalar]:
        values = model.values(obs, action)
        return model.pessimism(values), values.mean(), biased_std(values)

    parts: tuple[Array, Array, Array] = jax.vmap(one)(obs, action)
    return parts
