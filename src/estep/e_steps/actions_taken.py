"""E-steps on the actions that were taken: what a state-value network can tell of them is their advantage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.batch import flatten
from estep.core.slots import Draws, Inference
from estep.core.types import Info, Key, Scalar, Transition
from estep.e_steps.climb import EStep
from estep.families.particles import ess, exponential


def advantages(agent: Agent, batch: Transition, key: Key) -> Float[Array, " n"]:
    """A_t of every step of the batch, in one row, as numbers."""
    critic: Any = agent.likelihood.model
    found: Array = sg(critic.advantages(batch, agent.bootstrap(agent), key)).reshape(-1)
    return found


@dataclass(frozen=True)
class BatchWeights:
    """The E-step of V-MPO (Song et al. 2019, arXiv:1909.12238): ψ_t ∝ exp(A_t/η) over the steps of greatest advantage.

    The posterior is over the pairs of the whole batch: weights are n ψ_t, so that they sum to one in the mean, and
    log-ratios are to equal weights over those that are kept. Their mean is KL(ψ‖equal), and the gradient of
    `KLConstraint` that of the paper's dual.
    """

    top: float = 0.5
    """Part of the steps that is kept."""

    def __call__(self, agent: Agent, batch: Transition, key: Key) -> EStep:
        rows, advantage = flatten(batch), advantages(agent, batch, key)
        log_psi = top_weights(advantage, agent.temperature.model(), self.top)
        kept = log_psi > -jnp.inf
        n, count = advantage.shape[0], kept.sum()
        log_ratio = jnp.where(kept, log_psi + jnp.log(count.astype(jnp.float32)), 0.0)
        draws = Draws(rows.action[:, None], n * jnp.exp(log_psi)[:, None], log_ratio[:, None])
        info = {"e/advantage": advantage.mean(), "e/kept": kept.mean(), "e/ess": ess(log_psi)}
        return agent, draws, batch.memo, info


def top_weights(advantage: Float[Array, " n"], eta: Scalar, top: float) -> Float[Array, " n"]:
    """log ψ: the softmax of A/η over the ⌊top n⌋ greatest, at least one; -∞ for the others. Of ties the first are
    kept."""
    n = advantage.shape[0]
    chosen = jax.lax.top_k(advantage, max(1, int(top * n)))[1]
    kept = jnp.zeros(n, bool).at[chosen].set(True)
    return exponential(jnp.where(kept, advantage, -jnp.inf), eta)


Pointwise: TypeAlias = Callable[[Scalar, Scalar, Scalar, Scalar, Scalar], Scalar]
"""(log q(a), log q(a)/p(a), KL(q‖p), advantage, α) of one step to its loss."""


def policy_gradient(log_q: Scalar, log_ratio: Scalar, kl: Scalar, advantage: Scalar, alpha: Scalar) -> Scalar:
    """-log q(a) A + α KL(q‖p): KL-regularised advantage actor-critic (Schulman et al. 2017, arXiv:1704.06440)."""
    return -log_q * advantage + alpha * kl


def soft_q_learning(log_q: Scalar, log_ratio: Scalar, kl: Scalar, advantage: Scalar, alpha: Scalar) -> Scalar:
    """½ (Q(a) - R)² of Q(a) = V + α log q(a)/p(a), where the advantage is A = R - V: regression whose gradient is, in
    the mean over a ~ q, α times that of `policy_gradient` (Schulman et al. 2017, eq. 24)."""
    return 0.5 * jnp.square(alpha * log_ratio - advantage)


@dataclass(frozen=True)
class ScoreFunction:
    """An E-step by the score of the actions taken, drawn from q itself: no gradient comes through the critic."""

    pointwise: Pointwise = policy_gradient

    def __call__(self, agent: Agent, batch: Transition, key: Key) -> EStep:
        k_advantage, k_climb = jax.random.split(key)
        rows, advantage = flatten(batch), advantages(agent, batch, k_advantage)
        keys = jax.random.split(k_climb, advantage.shape[0])
        alpha = agent.temperature.model()

        def loss(inference: Inference) -> tuple[Scalar, tuple[Draws, Info]]:
            def one(row: Transition, advantage: Scalar, key: Key) -> tuple[Scalar, Draws]:
                k_infer, k_draw = jax.random.split(key)
                q, problem, _ = agent.infer(inference, agent.likelihood.model, row.obs, k_infer)
                p = problem.prior(row.obs)
                draws = q.draw(k_draw, agent.samples, p)
                log_q = q.log_prob(row.action)
                kl = draws.weight @ draws.log_ratio
                return self.pointwise(log_q, log_q - p.log_prob(row.action), kl, advantage, alpha), draws

            losses, draws = jax.vmap(one)(rows, advantage, keys)
            return losses.mean(), (draws, {"e/loss": losses.mean(), "e/advantage": advantage.mean()})

        inference, (draws, info) = agent.inference.descend(loss)
        return replace(agent, inference=inference), draws, batch.memo, info
