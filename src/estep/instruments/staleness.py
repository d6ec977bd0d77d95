"""The gap of a λ that is stored in replay, when its step is sampled again and after the iterations of that update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.slots import Lam
from estep.core.types import Key, Obs, Scalar
from estep.e_steps.chain import Chain
from estep.errors import UsageError
from estep.inference.iterative import Iterative
from estep.inference.starts import At, starting
from estep.instruments.gap import reference, sampled
from estep.instruments.interval import interval

KEPT, AFRESH = "kept", "afresh"


class Staleness(NamedTuple):
    """V of the best λ that many gradient ascents find minus V of this λ, in units of reward: mean over states and 95 %
    interval."""

    start: str
    """kept: a λ from replay; afresh: the λ with which the agent acts."""
    env_steps: int
    """Environment steps since the checkpoint whose replay had this λ; 0 for the inspected checkpoint."""
    iterations: int
    """Number of iterations from this λ, with the network and critic of the inspected checkpoint."""
    missing: float
    low: float
    high: float


def stored_optimiser(agent: Agent) -> Iterative:
    """The training optimiser of an agent that stores λ in replay.

    Raises:
        UsageError: the agent stores no λ.
    """
    inference = agent.inference.model
    if not isinstance(agent.e_step, Chain) or not isinstance(inference, Iterative):
        raise UsageError("This run stores no λ in replay.", "Inspect a run of iterative-sac with --persist.")
    return inference


def staleness(
    agent: Agent, obs: Float[Array, "b o"], stored: Mapping[int, Float[Array, "b l"]], key: Key
) -> list[Staleness]:
    """Continue inference from stored λ, with up to the iterations of one update.

    Args:
        agent: the agent.
        obs: states [b, o], as the networks get them.
        stored: λ [b, l] of these states, by the environment steps since they were stored.
        key: key of the random numbers.

    Raises:
        UsageError: the agent stores no λ.
    """
    steps, acting = stored_optimiser(agent).steps, agent.acting(agent.inference.model)
    missing = np.asarray(_missing(agent, obs, jnp.stack(list(stored.values()), 1), key), np.float64)
    last = acting.steps if isinstance(acting, Iterative) else 0
    labels = [(KEPT, age, k) for age in stored for k in range(steps + 1)] + [(AFRESH, 0, last)]
    return [Staleness(*label, *interval(each)) for label, each in zip(labels, missing.T, strict=True)]


@jax.jit
def _missing(agent: Agent, obs: Float[Array, "b o"], stored: Float[Array, "b n l"], key: Key) -> Float[Array, "b k"]:
    """V of the best λ minus V after each iteration from each stored λ, and minus V of the λ of acting, with the same
    noise."""

    def in_state(obs: Obs, stored: Float[Array, "n l"], key: Key) -> Float[Array, " k"]:
        k_infer, k_path, k_best, k_value = jax.random.split(key, 4)
        inference = stored_optimiser(agent)
        _, problem, inferred = agent.infer(agent.acting(inference), agent.acting_critic(agent.likelihood), obs, k_infer)

        def path(lam: Lam, key: Key) -> Float[Array, "k l"]:
            started: Iterative = starting(inference, At(lam))
            return started.path(problem, agent.posterior, key, inference.steps)

        paths = jax.vmap(path)(stored, jax.random.split(k_path, stored.shape[0]))
        lams = jnp.concatenate([paths.reshape(-1, stored.shape[-1]), inferred.lam[None]])
        best = reference(agent, problem, inferred.lam, k_best)
        value: Callable[[Lam], Scalar] = lambda lam: sampled(agent.posterior(lam), problem, k_value)[0]
        return value(best) - jax.vmap(value)(lams)

    missing: Float[Array, "b k"] = jax.vmap(in_state)(obs, stored, jax.random.split(key, obs.shape[0]))
    return missing
