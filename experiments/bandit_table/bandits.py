"""Inference problems whose action values are given and stay: how far is a λ from the best one?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.keys import make_key
from estep.core.objective import soft_value
from estep.core.slots import Bootstrap, Lam, Likelihood, Problem
from estep.core.types import Action, Identity, Info, Key, Obs, Scalar, Spec, Tanh, Transition
from estep.instruments.gap import check_parametric, reference
from estep.instruments.states import RECENT, evenly_spaced, replay_of
from estep.instruments.transfer import bonus_of
from estep.likelihoods.q_function import MeanMinusStd, QFunction
from estep.nets import MLP, mlp
from estep.policy.actor import scale
from estep.policy.policy import load

STATE, ACTION, ALPHA = 8, 4, 0.2
SHIFT = 0.5
"""How far every optimum of the closed form moves after training."""
BONUS = 2.0
"""What a shifted ReLU bandit pays more for each unit of Σ a."""
DRAWS = 512
"""With which V is measured where it has no closed form, the same noise for all λ of a state."""
POOL = 25_600
"""States that come back, for inference that goes on where it stopped: 30 visits of each in 3000 updates."""
HIDDEN = 256, 256
"""Layers of the networks that infer."""


class Bandit(NamedTuple):
    """Two objectives, and the states in which they are asked for."""

    training: Likelihood
    shifted: Likelihood
    """Another one, without training again."""
    spec: Spec
    alpha: float
    hidden: tuple[int, ...]
    """Layers of the networks that infer."""
    pool: Float[Array, "n s"]
    """States that come back."""
    held_out: Float[Array, "m s"]
    """States that no agent learns from."""
    best: Callable[[Agent, Likelihood, Obs, Key], Lam]
    """The best λ in a state, for all agents of one family."""
    gaps: Callable[[Agent, Likelihood, Obs, Lam, Float[Array, "k l"], Key], Float[Array, " k"]]
    """What each λ misses to the best one, in units of reward."""


class Quadratic(Likelihood):
    """Q(s, a) + α log p(a), Q(s, a) = -Σ (a - b(s))²/2c(s), p(a) = N(0, I): the posterior is Gaussian, and b is a rough
    function of the state. The prior is part of Q because the library takes the KL of two Gaussians in closed form; the
    published figures are those of the sampled log-ratio."""

    w1: Float[Array, "s h"]
    w2: Float[Array, "h a"]
    w3: Float[Array, "h a"]
    shift: Scalar

    def landscape(self, obs: Obs) -> tuple[Action, Action]:
        """The optimum b and the curvature 1/c in one state."""
        h = jnp.sin(obs @ self.w1)
        return 1.5 * jnp.tanh(h @ self.w2) + self.shift, jnp.exp(h @ self.w3)

    def __call__(self, problem: Problem, action: Action, key: Key) -> Scalar:
        b, curvature = self.landscape(problem.obs)
        return -0.5 * (jnp.square(action - b) * curvature).sum() - 0.5 * ALPHA * jnp.square(action).sum()

    def loss(self, batch: Transition, bootstrap: Bootstrap, key: Key) -> tuple[Scalar, Info]:
        return jnp.zeros(()), {}


def exactly_best(agent: Agent, problem: Quadratic, obs: Obs, key: Key) -> Lam:
    """λ of the posterior, in closed form."""
    b, curvature = problem.landscape(obs)
    precision = 1.0 + curvature / ALPHA
    return jnp.concatenate([b * curvature / ALPHA / precision, -0.5 * jnp.log(precision)])


def exact_gaps(
    agent: Agent, problem: Quadratic, obs: Obs, best: Lam, lams: Float[Array, "k l"], key: Key
) -> Float[Array, " k"]:
    """α KL(q‖q*) of each λ."""
    mean, log_scale = jnp.split(best, 2)

    def gap(lam: Lam) -> Scalar:
        mu, log_sigma = jnp.split(lam, 2)
        ratio = 2.0 * (log_sigma - log_scale)
        return 0.5 * ALPHA * (jnp.exp(ratio) + jnp.square(mu - mean) * jnp.exp(-2.0 * log_scale) - 1.0 - ratio).sum()

    return jax.vmap(gap)(lams)


class Rough(Likelihood):
    """Networks, as the critics of an agent, and a bonus in favour of one corner."""

    critic: Likelihood
    bonus: Scalar
    """What each unit of Σ a pays."""
    spec: Spec = eqx.field(static=True)

    def __call__(self, problem: Problem, action: Action, key: Key) -> Scalar:
        return self.critic(problem, action, key) + self.bonus * self.spec.squash(action).sum()

    def loss(self, batch: Transition, bootstrap: Bootstrap, key: Key) -> tuple[Scalar, Info]:
        return jnp.zeros(()), {}


def best_found(agent: Agent, problem: Likelihood, obs: Obs, key: Key) -> Lam:
    """The best λ that many gradient ascents find: with those of one reference alone, networks find better ones in some
    problems."""
    k_run, k_judge = jax.random.split(key)
    here = agent.problem(problem, obs)
    start = agent.posterior.start(here.prior(obs))
    run = lambda key: reference(agent, here, start, key)
    ends: Array = jax.vmap(run)(jax.random.split(k_run, REFERENCES))
    values = jax.vmap(lambda lam: soft_value(agent.posterior(lam), here, k_judge, DRAWS)[0])(ends)
    return ends[jnp.argmax(values)]


def sampled_gaps(
    agent: Agent, problem: Likelihood, obs: Obs, best: Lam, lams: Float[Array, "k l"], key: Key
) -> Float[Array, " k"]:
    """V of the best λ less V of each."""

    def value(lam: Lam) -> Scalar:
        return soft_value(agent.posterior(lam), agent.problem(problem, obs), key, DRAWS)[0]

    return value(best) - jax.vmap(value)(lams)


def quadratic(seed: int) -> Bandit:
    """A rough optimum of a smooth objective: what an optimiser misses is known exactly."""
    keys = jax.random.split(jax.random.key(1000 + seed), 3)
    shapes = ((1.2, (STATE, 64)), (0.5, (64, ACTION)), (0.3, (64, ACTION)))
    weights = [scale * jax.random.normal(key, shape) for key, (scale, shape) in zip(keys, shapes, strict=True)]
    problem = Quadratic(*weights, jnp.zeros(()))
    shifted = replace(problem, shift=jnp.asarray(SHIFT))
    spec, states = Spec(STATE, ACTION, Identity()), (normal_pool(seed), normal_held_out(1000))
    return Bandit(problem, shifted, spec, ALPHA, HIDDEN, *states, exactly_best, exact_gaps)


def normal_pool(seed: int) -> Float[Array, "n s"]:
    """States that come back."""
    return jax.random.normal(jax.random.split(make_key(10_000 + seed))[0], (POOL, STATE))


def normal_held_out(count: int) -> Float[Array, "n s"]:
    """The same for all seeds."""
    return jax.random.normal(make_key(31337), (count, STATE))


REFERENCES = 8
"""Of five ascents each, the best of which is the best λ of networks."""
STEEP, HIGH, DIFFERENT = 4.0, 12.0, 0.25
"""Of the ReLU bandit: what the weights of the action and those of the output are multiplied by, and the spread of what
its two networks do not share, in terms of each layer's own."""


def rough(seed: int) -> Bandit:
    """Two random ReLU networks that differ a little, with several optima in a."""
    k_common, *keys = jax.random.split(jax.random.key(1000 + seed), 3)
    common = mlp((STATE, ACTION), 1, (64, 64), key=k_common)
    by_state, by_action = common.first
    steep = replace(common, first=(by_state, STEEP * by_action), rest=(common.rest[0], HIGH * common.rest[1]))
    members = tuple(disturbed(steep, key) for key in keys)
    # β √2 of the biased standard deviation of two is 1 of the unbiased one
    spec, states = Spec(STATE, ACTION, Tanh()), (normal_pool(seed), normal_held_out(128))
    problem = Rough(QFunction(members, Tanh(), MeanMinusStd(2.0**0.5), 0.99), jnp.zeros(()), spec)
    shifted = replace(problem, bonus=jnp.asarray(BONUS))
    return Bandit(problem, shifted, spec, ALPHA, HIDDEN, *states, best_found, sampled_gaps)


def disturbed(net: MLP, key: Key) -> MLP:
    """The network with noise on every weight."""
    leaves, form = jax.tree.flatten(net)
    keys = jax.random.split(key, len(leaves))
    moved = [
        leaf + DIFFERENT * leaf.std() * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(form, moved)


def trained(run: Path, seed: int) -> Bandit:
    """The critics and temperature of the last checkpoint of a run, in the states of its replay: those of its latest
    steps are held out. The shifted objective pays for each action as `transfer` does for the first."""
    found = load(run, "latest")
    agent = found.agent
    check_parametric(agent)
    replay = replay_of(found, "latest")
    states = np.asarray(scale(jnp.asarray(replay.latest(len(replay))), found.scaling))
    older = states[: max(len(states) - RECENT, 1)]
    rows = np.random.default_rng(seed).choice(len(older), min(POOL, len(older)), replace=False)
    held_out = jnp.asarray(evenly_spaced(states[-RECENT:], 64))
    problem = Rough(agent.likelihood.model, jnp.zeros(()), agent.spec)
    shifted = replace(problem, bonus=bonus_of(agent, held_out, make_key(0)))
    alpha, hidden = float(agent.temperature.model()), found.recipe.algorithm.hidden
    return Bandit(
        problem, shifted, agent.spec, alpha, hidden, jnp.asarray(older[rows]), held_out, best_found, sampled_gaps
    )


BANDITS = {"quadratic": quadratic, "relu": rough}
