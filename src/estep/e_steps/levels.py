"""The E-step of policies of two levels, whose prior may stay near the z of the step before, and what replay stores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.batch import first_rows, flatten, memo_of
from estep.core.bootstrap import slow_posterior_value
from estep.core.slots import Bootstrap, Distribution, Inference
from estep.core.types import Action, Key, Memo, Scalar, Transition
from estep.e_steps.climb import EStep, climb
from estep.families.levels import TwoLevels
from estep.inference.levels import Following, latent_of

LATENT, KNOWN, LOG_PROB = "latent", "known", "log_prob"
"""Names in the memo: z [k] by which a step was taken, 1 if there is one, else 0 [1], and the density of (z, u) or of u
alone [1]."""


def latent_memo(agent: Agent, q: Distribution, action: Action) -> Memo:
    """What replay stores with a step: z, and log μ(z, u|s). A step of another policy has no z, and log μ(u|s).

    Args:
        agent: gives the size of z.
        q: μ, the distribution that u was sampled from; of two levels it has one sample of z.
        action: u.
    """
    if not isinstance(q, TwoLevels):
        empty = jnp.zeros(latent_of(agent.posterior))
        return {LATENT: empty, KNOWN: jnp.zeros(1), LOG_PROB: q.log_prob(action)[None]}
    return {LATENT: q.z[0], KNOWN: jnp.ones(1), LOG_PROB: q.joint_log_prob(action)[None]}


@dataclass(frozen=True)
class ClimbLevels:
    """An E-step: maximise V(s; q) in every state, under a prior that knows the z of the step before.

    It is known within a sequence, and not at its first step or after the end of an episode: there the prior is its
    stationary one.
    """

    part: float = 1.0
    """The fraction of the rows."""

    def __call__(self, agent: Agent, batch: Transition, key: Key) -> EStep:
        latent, known = memo_of(batch, LATENT), memo_of(batch, KNOWN) * (1.0 - batch.last[..., None])
        rows = flatten(batch._replace(memo={LATENT: earlier(latent), KNOWN: earlier(known)}))
        agent, draws, _, info = climb(agent, first_rows(rows, self.part), key, after_the_step)
        return agent, draws, batch.memo, info


def after_the_step(inference: Any, row: Transition) -> Inference:
    """Inference after the z that the memo of a row has."""
    return Following(inference, row.memo[LATENT], row.memo[KNOWN][0])


def earlier(values: Float[Array, "b t k"]) -> Float[Array, "b t k"]:
    """The numbers of the step before in each sequence; 0 at the first step.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.e_steps.levels import earlier
        >>> print(earlier(jnp.asarray([[[1.0], [2.0], [3.0]]]))[0, :, 0])
        [0. 1. 2.]
    """
    return jnp.concatenate([jnp.zeros_like(values[:, :1]), values[:, :-1]], axis=1)


def value_of_levels(agent: Agent) -> Bootstrap:
    """As `slow_posterior_value`, with the KL of both levels as the cost of s', given the z of the step to it.

    The policy of a correction is that of (z, u), as it was stored; where a step has no z, that of u alone.
    """

    def value(step: Transition, key: Key) -> Scalar:
        following: Any = after_the_step(agent.inference.slow, step)
        return slow_posterior_value(replace(agent, inference=replace(agent.inference, target=following))).value(
            step, key
        )

    def log_prob(step: Transition, key: Key) -> Scalar:
        inference: Any = agent.inference.slow
        z = step.memo[LATENT]
        q: Any = agent.posterior(inference.at(step.obs, agent.posterior, z[None], z, jnp.zeros(())).lam)
        alone = slow_posterior_value(agent).log_prob(step, key)
        return jnp.where(step.memo[KNOWN][0] > 0, q.joint_log_prob(step.action), alone)

    return slow_posterior_value(agent)._replace(value=value, log_prob=log_prob)
