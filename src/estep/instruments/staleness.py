"""What a λ that replay keeps misses by the time its step is drawn again, and after the iterations of that visit."""

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
    """What is missing to the best λ that many gradient ascents find, in units of reward: the mean over states and a
    95 % interval."""

    start: str
    """kept, or afresh: as the agent acts."""
    env_steps: int
    """Since the checkpoint whose replay held this λ; 0 for the one inspected, where it waits since its last visit."""
    iterations: int
    """From there, by the network and critic of the checkpoint inspected."""
    missing: float
    low: float
    high: float


def chained(agent: Agent) -> Iterative:
    """The optimiser of an agent that keeps λ in replay, as it trains.

    Raises:
        UsageError: it keeps none.
    """
    inference = agent.inference.model
    if not isinstance(agent.e_step, Chain) or not isinstance(inference, Iterative):
        raise UsageError("This run keeps no λ in replay.", "Inspect a run of iterative-sac with --persist.")
    return inference


def staleness(
    agent: Agent, obs: Float[Array, "b o"], kept: Mapping[int, Float[Array, "b l"]], key: Key
) -> list[Staleness]:
    """Go on from kept λ, up to as many iterations as a visit makes.

    Args:
        obs: states as the networks see them.
        kept: λ of each of these states, by the environment steps that it has waited.

    Raises:
        UsageError: the agent keeps no λ.
    """
    steps, acting = chained(agent).steps, agent.acting(agent.inference.model)
    missing = np.asarray(_missing(agent, obs, jnp.stack(list(kept.values()), 1), key), np.float64)
    last = acting.steps if isinstance(acting, Iterative) else 0
    labels = [(KEPT, age, k) for age in kept for k in range(steps + 1)] + [(AFRESH, 0, last)]
    return [Staleness(*label, *interval(each)) for label, each in zip(labels, missing.T, strict=True)]


@jax.jit
def _missing(agent: Agent, obs: Float[Array, "b o"], kept: Float[Array, "b n l"], key: Key) -> Float[Array, "b k"]:
    """V of the best λ less V after each iteration from each kept λ, and of what acting infers, with the same noise."""

    def one(obs: Obs, kept: Float[Array, "n l"], key: Key) -> Float[Array, " k"]:
        k_infer, k_path, k_best, k_value = jax.random.split(key, 4)
        inference = chained(agent)
        _, problem, inferred = agent.infer(agent.acting(inference), agent.likelihood.model, obs, k_infer)

        def path(lam: Lam, key: Key) -> Float[Array, "k l"]:
            started: Iterative = starting(inference, At(lam))
            return started.path(problem, agent.posterior, key, inference.steps)

        paths = jax.vmap(path)(kept, jax.random.split(k_path, kept.shape[0]))
        lams = jnp.concatenate([paths.reshape(-1, kept.shape[-1]), inferred.lam[None]])
        best = reference(agent, problem, inferred.lam, k_best)
        value: Callable[[Lam], Scalar] = lambda lam: sampled(agent.posterior(lam), problem, k_value)[0]
        return value(best) - jax.vmap(value)(lams)

    found: Float[Array, "b k"] = jax.vmap(one)(obs, kept, jax.random.split(key, obs.shape[0]))
    return found
