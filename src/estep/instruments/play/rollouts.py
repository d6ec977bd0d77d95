"""Whole episodes of the stochastic policy, with what an instrument needs of each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array

from estep.core.agent import Agent
from estep.core.types import Action, Key, Obs, Scalar
from estep.envs.base import HostEnv
from estep.policy.actor import Scaling, scale

KL_DRAWS = 16
"""Number of samples of q for KL(q‖p) in each step, if the KL has no closed form."""


class Episode(NamedTuple):
    """One episode of the stochastic policy."""

    obs: npt.NDArray[np.float32]
    """[t, o], as the networks get them."""
    action: npt.NDArray[np.float32]
    """[t, a], the points u."""
    reward: npt.NDArray[np.float64]
    cost: npt.NDArray[np.float64]
    """α KL(q‖p) in each state [t], or 0 if the KL is not a cost."""
    last: npt.NDArray[np.float32]
    """The final observation [o]."""
    terminated: bool
    saved: Sequence[Any] = ()
    """The state of the simulator before each step, if states are saved."""


def rollouts(
    agent: Agent,
    env: HostEnv,
    scaling: Scaling,
    key: Key,
    episodes: int,
    save: Callable[[], Sequence[Any]] | None = None,
) -> list[Episode]:
    """Run whole episodes of the stochastic policy, equally many in each environment.

    Args:
        agent: the agent.
        env: the environments.
        scaling: mean and scale of observations.
        key: key of the random numbers.
        episodes: how many; an episode that ends with a bad transition does not count.
        save: gives the state of each environment; None saves no states.
    """
    rounds = -(-episodes // env.num_envs)
    open_: list[list[tuple[Any, ...]]] = [[] for _ in range(env.num_envs)]
    done: list[list[Episode]] = [[] for _ in range(env.num_envs)]
    obs, count = env.reset(), 0
    while min(map(len, done)) < rounds:
        seen, u, action, cost = map(np.asarray, _act(agent, obs, key, np.uint32(count), scaling))
        saved = save() if save else ()
        step = env.step(action)
        after = np.asarray(scale(jnp.asarray(step.next_obs), scaling))
        for i, steps in enumerate(open_):
            steps.append((seen[i], u[i], step.reward[i], cost[i], *saved[i : i + 1]))
            if step.terminated[i] or step.truncated[i]:
                if step.valid[i]:
                    columns = [np.stack([row[k] for row in steps]) for k in range(4)]
                    reward, price = columns[2].astype(np.float64), columns[3].astype(np.float64)
                    states = [row[4] for row in steps] if save else []
                    ended = after[i], bool(step.terminated[i])
                    done[i].append(Episode(columns[0], columns[1], reward, price, *ended, states))
                open_[i] = []
        obs, count = step.obs, count + 1
    return [each[number] for number in range(rounds) for each in done][:episodes]


def has_soft_critic(agent: Agent) -> bool:
    """Whether the KL of later steps is a cost in this agent's values."""
    return agent.bootstrap(agent).soft


@jax.jit
def _act(agent: Agent, obs: Array, key: Key, counter: Array, scaling: Scaling) -> tuple[Array, Array, Array, Array]:
    """States as the networks get them, points u, actions, and α KL(q‖p), in each of e states.

    The key of the step is made inside of the program: outside that takes longer than all the rest.
    """
    obs, key = scale(obs, scaling), jax.random.fold_in(key, counter)

    def in_state(obs: Obs, key: Key) -> tuple[Action, Action, Scalar]:
        k_infer, k_sample, k_kl = jax.random.split(key, 3)
        q = agent.behave(agent, obs, k_infer)
        u = q.sample(k_sample)
        if not (has_soft_critic(agent) and q.knows_ratio):
            return u, agent.spec.squash(u), jnp.zeros(())
        problem = agent.problem(agent.likelihood.model, obs)
        draws = q.draw(k_kl, KL_DRAWS, problem.prior(obs))
        return u, agent.spec.squash(u), problem.alpha * (draws.weight @ draws.log_ratio)

    u, action, cost = jax.vmap(in_state)(obs, jax.random.split(key, obs.shape[0]))
    return obs, u, action, cost
