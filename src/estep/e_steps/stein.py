"""The E-step of soft Q-learning: amortised Stein variational gradient descent."""

from __future__ import annotations

import functools as ft
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.batch import flatten
from estep.core.slots import Draws, Inference, Problem
from estep.core.types import Info, Key, Obs, Scalar, Transition
from estep.e_steps.climb import EStep
from estep.inference.stein import Stein, sampler_of

LEAST_BANDWIDTH = 1e-3
"""Of the kernel, in squared units of u: particles that coincide have a median distance of 0."""


def stein_e_step(agent: Agent, batch: Transition, key: Key) -> EStep:
    """Move the sampler along the Stein direction on the critic in every state of the batch (Wang & Liu 2016,
    arXiv:1611.01722; Haarnoja et al. 2017, eq. 13, 14): φ ascends mean_j ⟨Δ_j, u_j(φ)⟩. Half of the draws stand still
    and say where the other half should go."""
    obs = flatten(batch).obs
    keys = jax.random.split(key, obs.shape[0])

    def one(sampler: Stein, obs: Obs, key: Key) -> tuple[Scalar, Float[Array, "n a"], Scalar]:
        k_still, k_moved, k_score = jax.random.split(key, 3)
        half = sampler.samples // 2
        still, moved = sg(sampler.points(obs, k_still, half)), sampler.points(obs, k_moved, sampler.samples - half)
        problem = agent.problem(agent.likelihood.model, obs)
        delta = direction(still, sg(moved), score(problem, still, k_score))
        climbed = (delta * moved).sum(1).mean()
        return climbed, jnp.concatenate([still, moved]), jnp.sqrt(jnp.square(delta).sum(1).mean())

    def loss(inference: Inference) -> tuple[Scalar, tuple[Array, Info]]:
        climbed, action, size = jax.vmap(ft.partial(one, sampler_of(inference)))(obs, keys)
        return -climbed.mean(), (action, {"e/stein": size.mean()})

    inference, (action, info) = agent.inference.descend(loss)
    n = action.shape[1]
    draws = Draws(action, jnp.full(action.shape[:2], 1.0 / n), jnp.zeros(action.shape[:2]))  # no density: KL unknown
    return replace(agent, inference=inference), draws, batch.memo, info


def score(problem: Problem, action: Float[Array, "m a"], key: Key) -> Float[Array, "m a"]:
    """∇_u [Q̂(s, u)/α + log p(u)], the score of the posterior. The densities are over u: the Jacobian of the squash is
    in the prior. The published code takes the gradient and the kernel over a = tanh u, and adds the log-Jacobian to
    the density over a as if it were over u; its sampler tends to exp(Q̂/α) Π(1 - a_i²) (for Q̂ = 0, E a² = 1/5)."""
    prior = problem.prior(problem.obs)

    def log_density(action: Float[Array, " a"], key: Key) -> Scalar:
        return problem.likelihood(problem, action, key) / problem.alpha + prior.log_prob(action)

    keys = jax.random.split(key, action.shape[0])
    scores: Array = jax.vmap(jax.grad(log_density))(action, keys)
    return scores


def direction(
    still: Float[Array, "m a"], moved: Float[Array, "n a"], score: Float[Array, "m a"]
) -> Float[Array, "n a"]:
    """Δ_j = mean_i [k(u_i, u_j) score_i + ∇_{u_i} k(u_i, u_j)] for the j that move, with k = exp(-|u_i - u_j|²/h): up
    the density, and away from the particles that stand still (Liu & Wang 2016, arXiv:1608.04471, eq. 8)."""
    apart = still[:, None] - moved[None]
    square = jnp.square(apart).sum(-1)
    h = bandwidth(square)
    kernel = jnp.exp(-square / h)
    delta: Array = (kernel[:, :, None] * (score[:, None] - 2.0 / h * apart)).mean(0)
    return delta


def bandwidth(square: Float[Array, "m n"]) -> Scalar:
    """h = median of the squared distances over log m, for m ≥ 2 particles that stand still."""
    return jnp.maximum(jnp.median(square) / math.log(square.shape[0]), LEAST_BANDWIDTH)
