"""The programs that act, compiled once for agents of one structure."""

from __future__ import annotations

import functools as ft
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array

from estep.core import acting
from estep.core.acting import act_with_memo
from estep.core.agent import Agent
from estep.core.keys import make_key
from estep.core.types import Key, Memo
from estep.data.normalise import normalise
from estep.priors.uniform import Uniform
from estep.runs.leaves import leaf_name

Floats: TypeAlias = npt.NDArray[np.float32]

Scaling: TypeAlias = "tuple[Array, Array] | None"
"""Mean and scale of observations, or None where they are not normalised."""

INIT, ACT, UPDATE, EVALUATE, INSPECT = range(5)
"""Purposes of keys: every key is derived from the seed, a purpose and a counter, so none has to be saved."""


@ft.cache
def key_of(seed: int, purpose: int) -> Key:
    """The key of one purpose, made once: an eager fold takes longer than a policy."""
    return jax.random.fold_in(make_key(seed), purpose)


class Acting(NamedTuple):
    """The programs that act, for agents of one structure."""

    kept: tuple[int, ...]
    """Which leaves they read: all but the optimisers' states."""
    draw: Callable[..., tuple[Array, Array, Memo]]
    mode: Callable[..., Array]


@ft.cache
def compile_acting(structure: Any) -> Acting:
    """Programs whose arguments are an agent's kept leaves, states [E, o], a key, a counter and the scaling."""
    paths = jax.tree_util.tree_flatten_with_path(jax.tree.unflatten(structure, range(structure.num_leaves)))[0]
    kept = tuple(number for path, number in paths if "opt_state" not in leaf_name(path))

    def whole(leaves: Sequence[Array]) -> Agent:
        held = dict(zip(kept, leaves, strict=True))
        agent: Agent = jax.tree.unflatten(structure, [held.get(i) for i in range(structure.num_leaves)])
        return agent

    def draw(
        leaves: Sequence[Array], obs: Array, key: Key, counter: Array, scaling: Scaling
    ) -> tuple[Array, Array, Memo]:
        return act_with_memo(whole(leaves), scale(obs, scaling), jax.random.fold_in(key, counter))

    def mode(leaves: Sequence[Array], obs: Array, key: Key, counter: Array, scaling: Scaling) -> Array:
        return acting.act_greedily(whole(leaves), scale(obs, scaling), jax.random.fold_in(key, counter))

    return Acting(kept, jax.jit(draw), jax.jit(mode))


def remembered(agent: Agent) -> dict[str, int]:
    """What acting remembers of each step, by name, and how wide it is."""
    if agent.remember is None:
        return {}
    memo = jax.eval_shape(act_with_memo, agent, jnp.zeros((1, agent.spec.obs_dim)), jax.random.key(0))[2]
    return {name: int(leaf.shape[1]) for name, leaf in memo.items()}


@jax.jit
def remember_exploring(agent: Agent, u: Array) -> Memo:
    """What is remembered of uniformly random actions, drawn as points u [E, a]."""
    q, remember = Uniform(agent.spec).density, agent.remember
    return {} if remember is None else jax.vmap(lambda point: remember(agent, q, point))(u)


class Actor:
    """An agent as it acts, flattened once: flattening modules at every call would take longer than the networks.

    Both methods take states [E, o], a key, a counter folded into it, and the scaling of observations.
    """

    def __init__(self, agent: Agent) -> None:
        leaves, structure = jax.tree.flatten(agent)
        self._acting = compile_acting(structure)
        self._leaves = [leaves[i] for i in self._acting.kept]

    def draw(self, obs: Floats, key: Key, counter: np.uint32, scaling: Scaling) -> tuple[Array, Array, Memo]:
        """The points u [E, a] of drawn actions, the actions squash(u), and what is to be remembered."""
        return self._acting.draw(self._leaves, obs, key, counter, scaling)

    def mode(self, obs: Floats, key: Key, counter: np.uint32, scaling: Scaling) -> Array:
        """The deterministic actions [E, a]; the key feeds inference alone."""
        return self._acting.mode(self._leaves, obs, key, counter, scaling)


def scale(obs: Array, scaling: Scaling) -> Array:
    """Observations as the networks see them."""
    return obs if scaling is None else normalise(obs, *scaling)
