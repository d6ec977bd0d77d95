"""E-steps on the actions that were taken: a state-value network has advantages of these actions alone."""

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
    """A_t of every step of a batch, as one vector, without gradients.

    Args:
        agent: an agent whose likelihood is a `StateValue`.
        batch: steps [B, T].
        key: a random key.
    """
    critic: Any = agent.likelihood.model
    found: Array = sg(critic.advantages(batch, agent.bootstrap(agent), key)).reshape(-1)
    return found


@dataclass(frozen=True)
class BatchWeights:
    """An E-step, that of V-MPO: ψ_t ∝ exp(A_t/η) over the steps of greatest advantage.

    The posterior is over the pairs (s, a) of the whole batch. Weights are n ψ_t, so that their mean is one. Log-ratios
    are to equal weights over the chosen steps. So their mean is KL(ψ‖equal), and the gradient of `KLConstraint` is that
    of the paper's dual.

    Source:
        Song et al. 2019, arXiv:1909.12238.
    """

    top: float = 0.5
    """The fraction of the steps that is chosen."""

    def __call__(self, agent: Agent, batch: Transition, key: Key) -> EStep:
        rows, advantage = flatten(batch), advantages(agent, batch, key)
        log_psi = top_weights(advantage, agent.temperature.model(rows.obs[0]), self.top)
        kept = log_psi > -jnp.inf
        n, count = advantage.shape[0], kept.sum()
        log_ratio = jnp.where(kept, log_psi + jnp.log(count.astype(jnp.float32)), 0.0)
        draws = Draws(rows.action[:, None], n * jnp.exp(log_psi)[:, None], log_ratio[:, None])
        info = {"e/advantage": advantage.mean(), "e/kept": kept.mean(), "e/ess": ess(log_psi)}
        return agent, draws, batch.memo, info


def top_weights(advantage: Float[Array, " n"], eta: Scalar, top: float) -> Float[Array, " n"]:
    """log ψ: the log-softmax of A/η over the ⌊top · n⌋ greatest, at least one, and -∞ for the others.

    Of equal advantages the first are chosen.

    Args:
        advantage: A.
        eta: η.
        top: the fraction that is chosen.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.e_steps.actions_taken import top_weights
        >>> advantage = jnp.log(jnp.asarray([1.0, 3.0, 0.5, 0.1]))
        >>> print(jnp.exp(top_weights(advantage, jnp.asarray(1.0), top=0.5)).round(2))
        [0.25 0.75 0.   0.  ]

    Source:
        Song et al. 2019, arXiv:1909.12238.
    """
    n = advantage.shape[0]
    chosen = jax.lax.top_k(advantage, max(1, int(top * n)))[1]
    kept = jnp.zeros(n, bool).at[chosen].set(True)
    return exponential(jnp.where(kept, advantage, -jnp.inf), eta)


Pointwise: TypeAlias = Callable[[Scalar, Scalar, Scalar, Scalar, Scalar], Scalar]
"""The loss of one step.

Args:
    log_q: log q(a) of the action taken, in nats.
    log_ratio: log q(a)/p(a).
    kl: KL(q‖p).
    advantage: A, in units of the reward.
    alpha: α.
"""


def policy_gradient(log_q: Scalar, log_ratio: Scalar, kl: Scalar, advantage: Scalar, alpha: Scalar) -> Scalar:
    """A `Pointwise` loss: -log q(a) A + α KL(q‖p), of KL-regularised advantage actor-critic.

    Example:
        >>> from estep.e_steps.actions_taken import policy_gradient
        >>> policy_gradient(log_q=-2.0, log_ratio=0.0, kl=1.0, advantage=3.0, alpha=0.5)
        6.5

    Source:
        Schulman et al. 2017, arXiv:1704.06440.
    """
    return -log_q * advantage + alpha * kl


def soft_q_learning(log_q: Scalar, log_ratio: Scalar, kl: Scalar, advantage: Scalar, alpha: Scalar) -> Scalar:
    """A `Pointwise` loss: ½ (Q(a) - R)² with Q(a) = V + α log q(a)/p(a) and A = R - V.

    Its gradient, averaged over a ~ q, is α times that of `policy_gradient`.

    Source:
        Schulman et al. 2017, arXiv:1704.06440, eq. 24.
    """
    return 0.5 * jnp.square(alpha * log_ratio - advantage)


@dataclass(frozen=True)
class ScoreFunction:
    """An E-step by the score of the actions taken, which were sampled from q. No gradient flows through the critic."""

    pointwise: Pointwise = policy_gradient

    def __call__(self, agent: Agent, batch: Transition, key: Key) -> EStep:
        k_advantage, k_climb = jax.random.split(key)
        rows, advantage = flatten(batch), advantages(agent, batch, k_advantage)
        keys = jax.random.split(k_climb, advantage.shape[0])

        def loss(inference: Inference) -> tuple[Scalar, tuple[Draws, Info]]:
            def one(row: Transition, advantage: Scalar, key: Key) -> tuple[Scalar, Draws]:
                k_infer, k_draw = jax.random.split(key)
                q, problem, _ = agent.infer(inference, agent.likelihood.model, row.obs, k_infer)
                p = problem.prior(row.obs)
                draws = q.draw(k_draw, agent.samples, p)
                log_q = q.log_prob(row.action)
                kl = draws.weight @ draws.log_ratio
                return self.pointwise(log_q, log_q - p.log_prob(row.action), kl, advantage, problem.alpha), draws

            losses, draws = jax.vmap(one)(rows, advantage, keys)
            return losses.mean(), (draws, {"e/loss": losses.mean(), "e/advantage": advantage.mean()})

        inference, (draws, info) = agent.inference.descend(loss)
        return replace(agent, inference=inference), draws, batch.memo, info
