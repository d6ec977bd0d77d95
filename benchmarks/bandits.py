"""Inference problems without an environment: action values that are given, and how far a λ is from the best one."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.objective import soft_value
from estep.core.protocols import Bootstrap, Lam, Likelihood, Problem
from estep.core.types import Action, Identity, Info, Key, Obs, Scalar, Spec, Tanh, Transition
from estep.instruments.gap import reference
from estep.likelihoods.q_function import MeanMinusStd, QFunction
from estep.nets import MLP, mlp

STATE, ACTION, ALPHA = 8, 4, 0.2
SHIFT = 0.5
"""How far every optimum of the closed form moves after training."""
BONUS = 2.0
"""What a shifted ReLU bandit pays more for each unit of Σ a."""
DRAWS = 512
"""With which V is measured where it has no closed form, the same noise for all λ of a state."""


class Quadratic(Likelihood):
    """Q(s, a) + α log p(a), Q(s, a) = -Σ (a - b(s))²/2c(s), p(a) = N(0, I): the posterior is Gaussian, and b is a rough
    function of the state. The prior is part of Q because the library takes the KL of two Gaussians in closed form; the
    published figures are those of the sampled log-ratio."""

    w1: Float[Array, "s h"]
    w2: Float[Array, "h a"]
    w3: Float[Array, "h a"]
    shift: Scalar

    spec = Spec(STATE, ACTION, Identity())
    states = 1000
    """Held-out states in which gaps are averaged."""

    def landscape(self, obs: Obs) -> tuple[Action, Action]:
        """The optimum b and the curvature 1/c in one state."""
        h = jnp.sin(obs @ self.w1)
        return 1.5 * jnp.tanh(h @ self.w2) + self.shift, jnp.exp(h @ self.w3)

    def __call__(self, problem: Problem, action: Action, key: Key) -> Scalar:
        b, curvature = self.landscape(problem.obs)
        return -0.5 * (jnp.square(action - b) * curvature).sum() - 0.5 * ALPHA * jnp.square(action).sum()

    def loss(self, batch: Transition, bootstrap: Bootstrap, key: Key) -> tuple[Scalar, Info]:
        return jnp.zeros(()), {}

    def shifted(self) -> Self:
        """Every optimum elsewhere."""
        return replace(self, shift=jnp.asarray(SHIFT))

    def best(self, agent: Agent, obs: Obs, key: Key) -> Lam:
        """λ of the posterior, in closed form."""
        b, curvature = self.landscape(obs)
        precision = 1.0 + curvature / ALPHA
        return jnp.concatenate([b * curvature / ALPHA / precision, -0.5 * jnp.log(precision)])

    def gaps(self, agent: Agent, obs: Obs, best: Lam, lams: Float[Array, "k l"], key: Key) -> Float[Array, " k"]:
        """α KL(q‖q*) of each λ."""
        mean, log_scale = jnp.split(best, 2)

        def gap(lam: Lam) -> Scalar:
            mu, log_sigma = jnp.split(lam, 2)
            ratio = 2.0 * (log_sigma - log_scale)
            return (
                0.5 * ALPHA * (jnp.exp(ratio) + jnp.square(mu - mean) * jnp.exp(-2.0 * log_scale) - 1.0 - ratio).sum()
            )

        return jax.vmap(gap)(lams)


class Rough(Likelihood):
    """Two random ReLU networks that differ a little, as the critics of an agent, with several optima in a."""

    critic: QFunction
    bonus: Scalar

    spec = Spec(STATE, ACTION, Tanh())
    states = 128

    def __call__(self, problem: Problem, action: Action, key: Key) -> Scalar:
        return self.critic(problem, action, key) + self.bonus * self.spec.squash(action).sum()

    def loss(self, batch: Transition, bootstrap: Bootstrap, key: Key) -> tuple[Scalar, Info]:
        return jnp.zeros(()), {}

    def shifted(self) -> Self:
        """A bonus in favour of one corner."""
        return replace(self, bonus=jnp.asarray(BONUS))

    def best(self, agent: Agent, obs: Obs, key: Key) -> Lam:
        """The best λ that many gradient ascents find: with those of one reference alone, networks find better ones in
        some problems."""
        k_run, k_judge = jax.random.split(key)
        problem = agent.problem(self, obs)
        start = agent.posterior.start(problem.prior(obs))
        run = lambda key: reference(agent, problem, start, key)
        ends: Array = jax.vmap(run)(jax.random.split(k_run, REFERENCES))
        values = jax.vmap(lambda lam: soft_value(agent.posterior(lam), problem, k_judge, DRAWS)[0])(ends)
        return ends[jnp.argmax(values)]

    def gaps(self, agent: Agent, obs: Obs, best: Lam, lams: Float[Array, "k l"], key: Key) -> Float[Array, " k"]:
        """V of the best λ less V of each."""

        def value(lam: Lam) -> Scalar:
            return soft_value(agent.posterior(lam), agent.problem(self, obs), key, DRAWS)[0]

        return value(best) - jax.vmap(value)(lams)


def quadratic(seed: int) -> Quadratic:
    """A fresh problem."""
    keys = jax.random.split(jax.random.key(1000 + seed), 3)
    shapes = ((1.2, (STATE, 64)), (0.5, (64, ACTION)), (0.3, (64, ACTION)))
    weights = [scale * jax.random.normal(key, shape) for key, (scale, shape) in zip(keys, shapes, strict=True)]
    return Quadratic(*weights, jnp.zeros(()))


REFERENCES = 8
"""Of five ascents each, the best of which is the best λ of a ReLU bandit."""
STEEP, HIGH, DIFFERENT = 4.0, 12.0, 0.25
"""Of the ReLU bandit: what the weights of the action and those of the output are multiplied by, and the spread of what
its two networks do not share, in terms of each layer's own."""


def rough(seed: int) -> Rough:
    """A fresh problem."""
    k_common, *keys = jax.random.split(jax.random.key(1000 + seed), 3)
    common = mlp((STATE, ACTION), 1, (64, 64), key=k_common)
    by_state, by_action = common.first
    steep = replace(common, first=(by_state, STEEP * by_action), rest=(common.rest[0], HIGH * common.rest[1]))
    members = tuple(disturbed(steep, key) for key in keys)
    # β √2 of the biased standard deviation of two is 1 of the unbiased one
    return Rough(QFunction(members, Tanh(), MeanMinusStd(2.0**0.5), 0.99), jnp.zeros(()))


def disturbed(net: MLP, key: Key) -> MLP:
    """The network with noise on every weight."""
    leaves, form = jax.tree.flatten(net)
    keys = jax.random.split(key, len(leaves))
    moved = [
        leaf + DIFFERENT * leaf.std() * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(form, moved)


BANDITS = {"quadratic": quadratic, "relu": rough}
