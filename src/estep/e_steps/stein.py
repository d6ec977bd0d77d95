"""The E-step of soft Q-learning: amortised Stein variational gradient descent."""

from __future__ import annotations

import functools as ft
import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.batch import first_rows, flatten
from estep.core.slots import Draws, Inference, Problem
from estep.core.types import Info, Key, Obs, Scalar, Transition
from estep.e_steps.climb import EStep
from estep.inference.stein import Stein, sampler_of

LEAST_BANDWIDTH = 1e-3
"""The least bandwidth of the kernel, in squared units of u: the median distance of equal particles is 0."""


@dataclass(frozen=True)
class SteinFraction:
    """An E-step: move the sampler along the Stein direction, in the states of the first rows of the batch.

    φ ascends mean_j ⟨Δ_j, u_j(φ)⟩. Half of the samples are fixed and give the direction Δ_j in which the others move.

    Raises:
        UsageError: the inference of the agent is no `Stein`.

    Source:
        Wang & Liu 2016, arXiv:1611.01722; Haarnoja et al. 2017, eq. 13, 14.
    """

    part: float = 1.0
    """The fraction of the rows. The critic still learns from all rows."""

    def __call__(self, agent: Agent, batch: Transition, key: Key) -> EStep:
        obs = first_rows(flatten(batch), self.part).obs
        keys = jax.random.split(key, obs.shape[0])

        def one(sampler: Stein, obs: Obs, key: Key) -> tuple[Scalar, Float[Array, "n a"], Scalar]:
            k_still, k_moved, k_score = jax.random.split(key, 3)
            half = sampler.samples // 2
            still, moved = sg(sampler.points(obs, k_still, half)), sampler.points(obs, k_moved, sampler.samples - half)
            problem = agent.problem(agent.view(agent, agent.training_critic(agent.likelihood)), obs)
            delta = direction(still, sg(moved), score(problem, still, k_score))
            climbed = (delta * moved).sum(1).mean()
            return climbed, jnp.concatenate([still, moved]), jnp.sqrt(jnp.square(delta).sum(1).mean())

        def loss(inference: Inference) -> tuple[Scalar, tuple[Array, Info]]:
            climbed, action, size = jax.vmap(ft.partial(one, sampler_of(inference)))(obs, keys)
            return -climbed.mean(), (action, {"e/stein": size.mean()})

        inference, (action, info) = agent.inference.descend(loss)
        n = action.shape[1]
        no_ratio = jnp.zeros(action.shape[:2])  # there is no density, so the KL is not known
        draws = Draws(action, jnp.full(action.shape[:2], 1.0 / n), no_ratio)
        return replace(agent, inference=inference), draws, batch.memo, info


stein_e_step = SteinFraction()
"""An E-step: move the sampler along the Stein direction in every state of the batch."""


def score(problem: Problem, action: Float[Array, "m a"], key: Key) -> Float[Array, "m a"]:
    """∇_u [Q̂(s, u)/α + log p(u)], the score of the posterior in one state.

    Densities are over u: the Jacobian of the squash is in the prior. In the published code gradient and kernel are over
    a = tanh u, and the log-Jacobian is added to the density over a as if it were over u. So its sampler tends to
    exp(Q̂/α) Π(1 - a_i²), with E a² = 1/5 for Q̂ = 0, where the uniform posterior has 1/3.

    Args:
        problem: the state, p, Q̂ and α.
        action: points u.
        key: a random key.
    """
    prior = problem.prior(problem.obs)

    def log_density(action: Float[Array, " a"], key: Key) -> Scalar:
        return problem.likelihood(problem, action, key) / problem.alpha + prior.log_prob(action)

    keys = jax.random.split(key, action.shape[0])
    scores: Array = jax.vmap(jax.grad(log_density))(action, keys)
    return scores


def direction(
    still: Float[Array, "m a"], moved: Float[Array, "n a"], score: Float[Array, "m a"]
) -> Float[Array, "n a"]:
    """Δ_j = mean_i [k(u_i, u_j) score_i + ∇_{u_i} k(u_i, u_j)], with k = exp(-|u_i - u_j|²/h).

    It points up the density, and away from the fixed particles.

    Args:
        still: the fixed particles u_i, at least 2.
        moved: the particles u_j that move.
        score: the score of the posterior at each fixed particle.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.e_steps.stein import direction
        >>> still, moved = jnp.asarray([[0.0], [0.0]]), jnp.asarray([[-0.01], [0.01]])
        >>> delta = direction(still, moved, score=jnp.zeros((2, 1)))  # with no slope, only away from the fixed ones
        >>> bool(delta[0, 0] < 0 < delta[1, 0])
        True

    Source:
        Liu & Wang 2016, arXiv:1608.04471, eq. 8.
    """
    apart = still[:, None] - moved[None]
    square = jnp.square(apart).sum(-1)
    h = bandwidth(square)
    kernel = jnp.exp(-square / h)
    delta: Array = (kernel[:, :, None] * (score[:, None] - 2.0 / h * apart)).mean(0)
    return delta


def bandwidth(square: Float[Array, "m n"]) -> Scalar:
    """h = median of the squared distances / log m, for m ≥ 2 fixed particles.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.e_steps.stein import bandwidth
        >>> round(float(bandwidth(jnp.ones((2, 3)))), 3)  # 1 / log 2
        1.443
    """
    return jnp.maximum(jnp.median(square) / math.log(square.shape[0]), LEAST_BANDWIDTH)
