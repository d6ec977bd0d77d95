"""Sequential Monte Carlo: plan in one state with particles that a model carries forward.

N particles start in the state s, and each takes h imagined steps. A step draws an action of the proposal, imagines
where it leads, and multiplies the weight of the particle by exp(κ Δ),

    Δ_t = (E[r_t + γ c_t V(s_t+1)] - V(s_t))/α - log q(a_t|s_t)/p(a_t|s_t).

Where V is the optimal soft value, Δ_t = log π*(a_t|s_t)/q(a_t|s_t), so that weighted particles are samples of π*.
Before a step particles of little weight may be replaced by copies of the others. The result is about the N first
actions, the roots: each has the summed weight of the particles that descend from it. Particles share the random numbers
of the model and of V, and differ by their actions alone.

Source:
    Piché et al. 2019, Probabilistic planning with sequential Monte Carlo methods.
"""

from __future__ import annotations

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from estep.core.model import Model, Prediction
from estep.core.slots import Distribution
from estep.core.types import Action, Key, Obs, Scalar, Squash
from estep.families.particles import ess, log_mean, of_roots, systematic

THRESHOLDS = {"ess": 0.5, "every": 2.0, "never": 0.0}
"""Particles are resampled where their effective sample size is below this fraction of their number."""


class World(NamedTuple):
    """What a search imagines with. Its functions are of one state."""

    model: Model
    propose: Callable[[Obs], Distribution]
    """q(·|s), from which particles draw their actions."""
    prior: Callable[[Obs], Distribution]
    """p(·|s)."""
    value: Callable[[Obs, Key], Scalar]
    """V(s), under p. Its random numbers are the same for all particles of a step, so that luck is no advantage."""
    alpha: Scalar
    squash: Squash


class Search(NamedTuple):
    """The result of a search: N roots, samples of the proposal in its state, and what the search found of them."""

    action: Float[Array, "n a"]
    """The roots, points u."""
    log_weight: Float[Array, " n"]
    """log W, whose exponentials sum to one; -∞ for a root from which no particle descends."""
    advantage: Float[Array, " n"]
    """Σ_t α Δ_t of the particle that began with each root, up to the first resampling, in units of the reward."""
    log_evidence: Scalar
    """log Ẑ. The mean of Ẑ over searches is 1 where V is the optimal soft value and κ = 1."""
    ess: Float[Array, " h"]
    """Effective sample size of the particles after each step."""
    resampled: Bool[Array, " h"]
    """Whether particles were resampled before each step."""


class Swarm(NamedTuple):
    """N particles between two steps."""

    obs: Float[Array, "n o"]
    value: Float[Array, " n"]
    """V(s)."""
    alive: Bool[Array, " n"]
    """Whether the episode goes on. A particle whose episode ended keeps its weight."""
    log_weight: Float[Array, " n"]
    """Log weights, not normalised. The mean weight is the evidence so far."""
    root: Int[Array, " n"]
    """The number of the root from which each particle descends."""
    advantage: Float[Array, " n"]
    """Of the roots, not of the particles."""
    untouched: Bool[Array, ""]
    """Whether no particle was resampled yet."""


@dataclass(frozen=True)
class SMC:
    """A search by N particles over h steps.

    Example:
        >>> import jax.numpy as jnp
        >>> from typing import NamedTuple
        >>> from estep import make_key
        >>> from estep.core.types import Identity
        >>> from estep.families.gaussian import Normal
        >>> from estep.inference.smc import SMC, World
        >>> class Walk:  # the reward of a step is where it leads
        ...     members = 1
        ...     def predict(self, obs, action, member):
        ...         return Step(obs + action, jnp.zeros(1), (obs + action)[0], jnp.ones(()))
        >>> class Step(NamedTuple):
        ...     mean: object; std: object; reward: object; go_on: object
        >>> normal, nought = lambda obs: Normal(jnp.zeros(1), jnp.zeros(1)), lambda obs, key: jnp.zeros(())
        >>> world = World(Walk(), normal, normal, nought, jnp.asarray(3.0), Identity())
        >>> found = SMC(particles=1000, horizon=3, gamma=1.0)(world, jnp.zeros(1), make_key(0))
        >>> mean = float(jnp.exp(found.log_weight) @ found.action[:, 0])
        >>> 0.8 < mean < 1.2  # the first action counts three times, and α = 3, so the posterior is N(1, 1)
        True
    """

    particles: int
    horizon: int
    gamma: float
    resample: str = "ess"
    """The setting of this name: a key of THRESHOLDS."""
    power: float = 1.0
    """κ: below 1 weights are more equal."""
    dynamics: str = "variational"
    """"variational": the expectation in Δ is over members, and the luck of a step is the same for all particles.
    "optimistic": each step is one draw of one member, each particle has luck of its own, and good luck is a weight; a
    posterior over luck too, as published."""
    members: int = 0
    """How many members that expectation is over, others at each step; 0 for all."""

    def __call__(self, world: World, obs: Obs, key: Key) -> Search:
        """Plan in one state.

        Args:
            world: what the search imagines with.
            obs: the state.
            key: a random key.
        """
        n = self.particles
        k_value, k_steps = jax.random.split(key)
        nought = jnp.zeros(n, obs.dtype)
        value = jnp.full(n, world.value(obs, k_value))
        first = Swarm(jnp.tile(obs, (n, 1)), value, jnp.ones(n, bool), nought, jnp.arange(n), nought, jnp.asarray(True))
        steps = jnp.arange(self.horizon), jax.random.split(k_steps, self.horizon)
        last, (action, size, resampled) = jax.lax.scan(ft.partial(self.advance, world), first, steps)
        log_weight = of_roots(last.log_weight, last.root)
        return Search(action[0], log_weight, last.advantage, log_mean(last.log_weight), size, resampled)

    def advance(self, world: World, swarm: Swarm, step: tuple[Array, Key]) -> tuple[Swarm, tuple[Array, Array, Array]]:
        """One imagined step of all particles. There is no resampling after the last, which would only add variance.

        Args:
            world: what the search imagines with.
            swarm: the particles before the step.
            step: the number of the step, and a random key.

        Returns:
            The particles after the step; their actions, their effective sample size, and whether they were resampled.
        """
        number, key = step
        k_resample, k_action, k_onward = jax.random.split(key, 3)
        turn = (number > 0) & (ess(swarm.log_weight) < THRESHOLDS[self.resample] * self.particles)
        swarm = resampled(swarm, turn, k_resample)
        # drawn after resampling, so that copies part
        q, p = jax.vmap(world.propose)(swarm.obs), jax.vmap(world.prior)(swarm.obs)
        u = jax.vmap(lambda q, key: q.sample(key))(q, jax.random.split(k_action, self.particles))
        log_ratio = jax.vmap(lambda q, p, u: q.log_prob(u) - p.log_prob(u))(q, p, u)
        onward = self.imagine(world, swarm.obs, u, k_onward)
        delta = (onward.target - swarm.value) / world.alpha - log_ratio
        delta = jnp.where(swarm.alive, delta, 0.0)
        log_weight = swarm.log_weight + self.power * delta
        advantage = swarm.advantage + jnp.where(swarm.untouched, world.alpha * delta, 0.0)
        alive = swarm.alive & onward.goes_on
        after = swarm._replace(
            obs=onward.obs, value=onward.value, alive=alive, log_weight=log_weight, advantage=advantage
        )
        return after, (u, ess(log_weight), turn)

    def imagine(self, world: World, obs: Float[Array, "n o"], u: Float[Array, "n a"], key: Key) -> Onward:
        """What follows a step of all particles. Rewards and ends enter the target by expectation, states by a draw.

        A particle that is weighed by luck of its own is chosen for its luck: on HalfCheetah-v5 the advantages of one
        step then differ three times as much. So particles share their random numbers, unless luck is to count.
        """
        n, count = self.particles, world.model.members
        k_member, k_state, k_value, k_end = jax.random.split(key, 4)

        def by(member: Array, noise: Array) -> tuple[Array, Array, Array, Array]:
            def predict(obs: Obs, u: Action) -> Prediction:
                return world.model.predict(obs, world.squash(u), member)

            step = jax.vmap(predict)(obs, u)
            next_obs = step.mean + step.std * noise
            value = jax.vmap(world.value, (0, None))(next_obs, k_value)
            return next_obs, value, step.reward + self.gamma * step.go_on * value, step.go_on

        if self.dynamics == "optimistic":
            noise, chance = jax.random.normal(k_state, obs.shape), jax.random.uniform(k_end, (n,))
            next_obs, value, target, go_on = by(jax.random.randint(k_member, (), 0, count), noise)
        else:
            asked = jax.random.permutation(k_member, count)[: self.members or count]
            noise, chance = jax.random.normal(k_state, (len(asked), 1, obs.shape[1])), jax.random.uniform(k_end)
            every = jax.vmap(by)(asked, noise)
            next_obs, value, go_on = (every[i][0] for i in (0, 1, 3))
            target = every[2].mean(0)
        return Onward(next_obs, value, target, chance < go_on)


class Onward(NamedTuple):
    """What follows a step of all particles."""

    obs: Float[Array, "n o"]
    value: Float[Array, " n"]
    """V of these states, the baseline of the next step."""
    target: Float[Array, " n"]
    """E[r + γ c V(s')]."""
    goes_on: Bool[Array, " n"]


def resampled(swarm: Swarm, turn: Bool[Array, ""], key: Key) -> Swarm:
    """The particles drawn anew by their weights, each with the mean weight; or as they are, out of turn.

    Args:
        swarm: the particles.
        turn: whether to resample.
        key: a random key.
    """
    drawn = systematic(swarm.log_weight, key)
    chosen = jnp.where(turn, drawn, jnp.arange(drawn.shape[0], dtype=drawn.dtype))
    log_weight = jnp.where(turn, log_mean(swarm.log_weight), swarm.log_weight)
    return Swarm(
        swarm.obs[chosen],
        swarm.value[chosen],
        swarm.alive[chosen],
        log_weight,
        swarm.root[chosen],
        swarm.advantage,
        swarm.untouched & ~turn,
    )
