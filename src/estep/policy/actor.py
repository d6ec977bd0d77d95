"""Compiled programs that choose actions. They are compiled once for all agents of the same structure."""

from __future__ import annotations

import functools as ft
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from estep.core import acting
from estep.core.acting import act_with_memo
from estep.core.agent import Agent
from estep.core.keys import make_key
from estep.core.types import Floats, Key, Memo
from estep.data.normalise import Moments, normalise
from estep.priors.uniform import Uniform
from estep.runs.leaves import leaf_name

Scaling: TypeAlias = "tuple[Array, Array] | None"
"""Mean and scale of observations, or None if observations are not normalised."""

INIT, ACT, UPDATE, EVALUATE, INSPECT = range(5)
"""Purposes of keys. Every key is derived from the seed, a purpose and a counter, so no key has to be saved."""


@ft.cache
def key_of(seed: int, purpose: int) -> Key:
    """The key of a purpose. It is cached, because deriving it outside jit takes longer than a policy."""
    return jax.random.fold_in(make_key(seed), purpose)


class Acting(NamedTuple):
    """The compiled programs for agents of one structure."""

    leaf_numbers: tuple[int, ...]
    """The leaves of the agent that they read: all except the states of optimisers."""
    draw: Callable[..., tuple[Array, Array, Memo]]
    """Samples actions."""
    mode: Callable[..., Array]
    """Computes deterministic actions."""


@ft.cache
def compile_acting(structure: Any) -> Acting:
    """The programs for a tree structure. Their arguments are leaves, states [E, o], key, counter and scaling."""
    paths = jax.tree_util.tree_flatten_with_path(jax.tree.unflatten(structure, range(structure.num_leaves)))[0]
    leaf_numbers = tuple(number for path, number in paths if "opt_state" not in leaf_name(path))

    def rebuild(leaves: Sequence[Array]) -> Agent:
        held = dict(zip(leaf_numbers, leaves, strict=True))
        agent: Agent = jax.tree.unflatten(structure, [held.get(i) for i in range(structure.num_leaves)])
        return agent

    def draw(
        leaves: Sequence[Array], obs: Array, key: Key, counter: Array, scaling: Scaling
    ) -> tuple[Array, Array, Memo]:
        return act_with_memo(rebuild(leaves), scale(obs, scaling), jax.random.fold_in(key, counter))

    def mode(leaves: Sequence[Array], obs: Array, key: Key, counter: Array, scaling: Scaling) -> Array:
        return acting.act_greedily(rebuild(leaves), scale(obs, scaling), jax.random.fold_in(key, counter))

    return Acting(leaf_numbers, jax.jit(draw), jax.jit(mode))


def memo_widths(agent: Agent) -> dict[str, int]:
    """The columns that acting stores with each step in replay: their widths by name."""
    if agent.remember is None:
        return {}
    memo = jax.eval_shape(act_with_memo, agent, jnp.zeros((1, agent.spec.obs_dim)), jax.random.key(0))[2]
    return {name: int(leaf.shape[1]) for name, leaf in memo.items()}


@jax.jit
def memo_of_exploration(agent: Agent, u: Array) -> Memo:
    """The memo of uniform random actions with points u [E, a]."""
    q, remember = Uniform(agent.spec).density, agent.remember
    return {} if remember is None else jax.vmap(lambda point: remember(agent, q, point))(u)


class Actor:
    """An agent that acts. It is flattened once, because flattening in every call takes longer than the networks."""

    def __init__(self, agent: Agent) -> None:
        leaves, structure = jax.tree.flatten(agent)
        self._acting = compile_acting(structure)
        self._leaves = [leaves[i] for i in self._acting.leaf_numbers]

    def draw(self, obs: Floats, key: Key, counter: np.uint32, scaling: Scaling) -> tuple[Array, Array, Memo]:
        """Sample actions.

        Args:
            obs: observations [E, o].
            key: key of the random numbers.
            counter: folded into the key; count up from step to step.
            scaling: mean and scale of observations.

        Returns:
            The points u [E, a], the actions squash(u), and the memo to store with them.
        """
        return self._acting.draw(self._leaves, obs, key, counter, scaling)

    def actions(self, obs: Floats, key: Key, counter: np.uint32, scaling: Scaling) -> Array:
        """As `draw`, the actions alone."""
        return self.draw(obs, key, counter, scaling)[1]

    def mode(self, obs: Floats, key: Key, counter: np.uint32, scaling: Scaling) -> Array:
        """The deterministic actions [E, a]. The arguments are those of `draw`; only inference uses the key."""
        return self._acting.mode(self._leaves, obs, key, counter, scaling)


def scaling_of(moments: Moments | None) -> Scaling:
    """Mean and scale of observations so far, or None where they are not normalised."""
    return None if moments is None else (jnp.asarray(moments.mean), jnp.asarray(moments.scale))


def scale(obs: Array, scaling: Scaling) -> Array:
    """Observations as the networks get them."""
    return obs if scaling is None else normalise(obs, *scaling)
