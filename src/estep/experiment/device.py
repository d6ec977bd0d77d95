"""The programs that run on the device, and the agent as named arrays."""

from __future__ import annotations

import functools as ft
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array

from estep.algorithms import Algorithm
from estep.core import policy
from estep.core.agent import Agent, nothing
from estep.core.em import step
from estep.core.keys import make_key
from estep.core.types import Info, Key, Memo, Spec, Transition
from estep.data.normalise import normalise
from estep.errors import RejectedInput
from estep.priors.uniform import Uniform

Floats: TypeAlias = npt.NDArray[np.float32]
Scaling: TypeAlias = "tuple[Array, Array] | None"
"""Mean and scale of observations, or None where they are not normalised."""
OPTIONS = {"xla_cpu_copy_insertion_use_region_analysis": True}
"""Spares the loop over updates copies of its state on a CPU: 7 % of an update of SAC."""
INIT, ACT, UPDATE, EVALUATE, INSPECT = range(5)
"""Purposes of keys: every key is derived from the seed, a purpose and a counter, so none has to be saved."""


@ft.cache
def key_of(seed: int, purpose: int) -> Key:
    """The key of one purpose, made once: an eager fold takes longer than a policy."""
    return jax.random.fold_in(make_key(seed), purpose)


@ft.partial(jax.jit, static_argnums=(0, 1))
def init(algorithm: Algorithm, spec: Spec, key: Key) -> Agent:
    """A fresh agent, in one compiled program."""
    return algorithm.init(spec, key)


@ft.partial(jax.jit, donate_argnums=0, compiler_options=OPTIONS)
def improve(
    agent: Agent, batches: Transition, key: Key, counter: Array, scaling: Scaling
) -> tuple[Agent, tuple[Any, Info]]:
    """K updates in one call, on batches of shape [K, B, T, ...]; returns what their rows remember from now on, and the
    metrics of each, [K]."""
    batches = batches._replace(obs=scale(batches.obs, scaling), next_obs=scale(batches.next_obs, scaling))

    def one(agent: Agent, item: tuple[Transition, Array]) -> tuple[Agent, tuple[Any, Info]]:
        batch, number = item
        agent, memo, info = step(agent, batch, jax.random.fold_in(key, number))
        return agent, (memo, info)

    return jax.lax.scan(one, agent, (batches, counter + jnp.arange(batches.reward.shape[0], dtype=jnp.uint32)))


class Acting(NamedTuple):
    """The programs that act, for agents of one structure."""

    kept: tuple[int, ...]
    """Which leaves they read: all but the optimisers' states."""
    draw: Callable[..., tuple[Array, Array, Memo]]
    mode: Callable[..., Array]


@ft.cache
def acting(structure: Any) -> Acting:
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
        return policy.step(whole(leaves), scale(obs, scaling), jax.random.fold_in(key, counter))

    def mode(leaves: Sequence[Array], obs: Array, key: Key, counter: Array, scaling: Scaling) -> Array:
        return policy.act_greedily(whole(leaves), scale(obs, scaling), jax.random.fold_in(key, counter))

    return Acting(kept, jax.jit(draw), jax.jit(mode))


def remembered(agent: Agent) -> dict[str, int]:
    """What acting remembers of each step, by name, and how wide it is."""
    if agent.remember is nothing:
        return {}
    memo = jax.eval_shape(policy.step, agent, jnp.zeros((1, agent.spec.observation)), jax.random.key(0))[2]
    return {name: int(leaf.shape[1]) for name, leaf in memo.items()}


@jax.jit
def remember_exploring(agent: Agent, u: Array) -> Memo:
    """What is remembered of uniformly random actions, drawn as points u [E, a]."""
    q = Uniform(agent.spec).density
    return jax.vmap(lambda point: agent.remember(agent, q, point))(u)


class Actor:
    """An agent as it acts, flattened once: flattening modules at every call would take longer than the networks.

    Both methods take states [E, o], a key, a counter folded into it, and the scaling of observations.
    """

    def __init__(self, agent: Agent) -> None:
        leaves, structure = jax.tree.flatten(agent)
        self._acting = acting(structure)
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
