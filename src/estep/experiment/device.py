"""The programs that run on the device, and the agent as named arrays."""

from __future__ import annotations

import functools as ft
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from estep.algorithms import Algorithm
from estep.core import policy
from estep.core.agent import Agent
from estep.core.em import update
from estep.core.keys import make_key
from estep.core.types import Info, Key, Spec, Transition
from estep.data.normalise import normalise
from estep.errors import RejectedInput

Scaling: TypeAlias = "tuple[Array, Array] | None"
"""Mean and scale of observations, or None where they are not normalised."""
INIT, ACT, UPDATE, EVALUATE, INSPECT = range(5)
"""Purposes of keys: every key is derived from the seed, a purpose and a counter, so none has to be saved."""


def key_of(seed: int, purpose: int) -> Key:
    """The key of one purpose."""
    return jax.random.fold_in(make_key(seed), purpose)


@ft.partial(jax.jit, static_argnums=(0, 1))
def init(algorithm: Algorithm, spec: Spec, key: Key) -> Agent:
    """A fresh agent, in one compiled program."""
    return algorithm.init(spec, key)


@ft.partial(jax.jit, donate_argnums=0)
def improve(agent: Agent, batches: Transition, key: Key, counter: Array, scaling: Scaling) -> tuple[Agent, Info]:
    """K updates in one call, on batches of shape [K, B, ...]; returns the metrics of each, [K]."""
    batches = jax.tree.map(lambda leaf: leaf[:, :, None], batches)  # T = 1
    batches = batches._replace(obs=scale(batches.obs, scaling), next_obs=scale(batches.next_obs, scaling))

    def one(agent: Agent, item: tuple[Transition, Array]) -> tuple[Agent, Info]:
        batch, number = item
        return update(agent, batch, jax.random.fold_in(key, number))

    return jax.lax.scan(one, agent, (batches, counter + jnp.arange(batches.reward.shape[0], dtype=jnp.uint32)))


@jax.jit
def act(agent: Agent, obs: Array, key: Key, counter: Array, scaling: Scaling) -> tuple[Array, Array]:
    """Draw actions in states [E, o]: the points u [E, a] and the actions squash(u)."""
    return policy.act(agent, scale(obs, scaling), jax.random.fold_in(key, counter))


@jax.jit
def act_greedily(agent: Agent, obs: Array, key: Key, counter: Array, scaling: Scaling) -> Array:
    """The deterministic actions in states [E, o]."""
    return policy.act_greedily(agent, scale(obs, scaling), jax.random.fold_in(key, counter))


def scale(obs: Array, scaling: Scaling) -> Array:
    """Observations as the networks see them."""
    return obs if scaling is None else normalise(obs, *scaling)


def actor(agent: Agent) -> Agent:
    """The agent without its optimisers' states: the fewer leaves, the cheaper each call that acts."""
    names = ("prior", "inference", "likelihood", "temperature", "projection")
    return replace(agent, **{name: replace(getattr(agent, name), opt_state=()) for name in names})


def leaf_name(path: Sequence[Any]) -> str:
    """A leaf's place in the agent, such as inference.model.net.biases.0."""
    return ".".join(str(jax.tree_util.keystr((part,), simple=True)) for part in path)


def named_leaves(agent: Any) -> dict[str, dict[str, Any]]:
    """The agent's leaves by file and name: optimisers' states in `optim`, everything else in `params`."""
    files: dict[str, dict[str, Any]] = {"params": {}, "optim": {}}
    for path, leaf in jax.tree_util.tree_flatten_with_path(agent)[0]:
        name = leaf_name(path)
        files["optim" if "opt_state" in name else "params"][name] = leaf
    return files


def skeleton(algorithm: Algorithm, spec: Spec) -> Agent:
    """The agent's structure, with shapes for leaves."""
    shaped: Agent = jax.eval_shape(lambda key: algorithm.init(spec, key), jax.random.key(0))
    return shaped


def expected(shaped: Agent) -> dict[str, dict[str, tuple[tuple[int, ...], Any]]]:
    """What a checkpoint of this agent must hold."""
    return {
        file: {name: (leaf.shape, leaf.dtype) for name, leaf in leaves.items()}
        for file, leaves in named_leaves(shaped).items()
    }


def rebuild(shaped: Agent, tensors: Mapping[str, Mapping[str, np.ndarray[Any, Any]]]) -> Agent:
    """The agent whose leaves a checkpoint holds.

    Raises:
        RejectedInput: a leaf is missing, left over, or of another shape or dtype, by its name.
    """
    held = {**tensors.get("params", {}), **tensors.get("optim", {})}
    paths, structure = jax.tree_util.tree_flatten_with_path(shaped)
    leaves = []
    for path, leaf in paths:
        array = held.pop(leaf_name(path), None)
        if array is None or (array.shape, array.dtype) != (leaf.shape, leaf.dtype):
            what = f"The leaf {leaf_name(path)} is missing or not {leaf.dtype}{list(leaf.shape)}."
            raise RejectedInput(what, "Use a checkpoint of this algorithm and environment.")
        leaves.append(jnp.array(array))
    if held:
        what = f"The leaf {min(held)} is not one of this algorithm."
        raise RejectedInput(what, "Use a checkpoint of this algorithm and environment.")
    agent: Agent = jax.tree.unflatten(structure, leaves)
    return agent
