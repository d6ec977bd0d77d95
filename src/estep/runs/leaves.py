"""Converts an agent to named arrays and back."""

from __future__ import annotations

import functools as ft
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from estep.algorithms.contract import check_leaves, home_of, is_own
from estep.core.agent import Agent, Algorithm
from estep.core.types import Key, Spec
from estep.errors import RejectedInput, UsageError
from estep.settings import references


def leaf_name(path: Sequence[Any]) -> str:
    """A leaf's path in the agent, such as inference.model.net.biases.0."""
    return ".".join(str(jax.tree_util.keystr((part,), simple=True)) for part in path)


def named_leaves(agent: Any) -> dict[str, dict[str, Any]]:
    """The agent's leaves by file and name. States of optimisers are in `optim`, all other leaves in `params`."""
    files: dict[str, dict[str, Any]] = {"params": {}, "optim": {}}
    for path, leaf in jax.tree_util.tree_flatten_with_path(agent)[0]:
        name = leaf_name(path)
        files["optim" if "opt_state" in name else "params"][name] = leaf
    return files


def skeleton(algorithm: Algorithm, spec: Spec) -> Agent:
    """The agent with shapes and dtypes in place of arrays.

    Raises:
        UsageError: an algorithm or a part of somebody's own raised an exception, or made something else.
    """
    key = jax.random.key(0)
    if not is_own(algorithm):
        shaped: Agent = jax.eval_shape(lambda key: algorithm.init(spec, key), key)
        return shaped
    name = f"init of {home_of(algorithm)}"

    def init(key: Key) -> Agent:
        agent = algorithm.init(spec, key)
        if not isinstance(agent, Agent):
            raise UsageError(f"{name} returned no Agent.", "Return an estep Agent from it.")
        check_leaves(agent)
        return agent

    made: Agent = references.call(ft.partial(jax.eval_shape, init), name, (key,), "the Spec and a key")
    return made


def expected(shaped: Agent) -> dict[str, dict[str, tuple[tuple[int, ...], Any]]]:
    """Shape and dtype of each leaf that a checkpoint of this agent must have, by file and name."""
    return {
        file: {name: (leaf.shape, leaf.dtype) for name, leaf in leaves.items()}
        for file, leaves in named_leaves(shaped).items()
    }


def rebuild(shaped: Agent, tensors: Mapping[str, Mapping[str, np.ndarray[Any, Any]]]) -> Agent:
    """The agent with the arrays of a checkpoint. Where it has no states of optimisers at all, they are zeros: a
    published policy acts, and is not trained on.

    Raises:
        RejectedInput: a leaf is missing, unknown, or of the wrong shape or dtype. The message names the leaf.
    """
    held = {**tensors.get("params", {}), **tensors.get("optim", {})}
    paths, structure = jax.tree_util.tree_flatten_with_path(shaped)
    leaves = []
    for path, leaf in paths:
        name = leaf_name(path)
        array = held.pop(name, None)
        if "optim" not in tensors and "opt_state" in name:
            array = np.zeros(leaf.shape, leaf.dtype)
        if array is None or (array.shape, array.dtype) != (leaf.shape, leaf.dtype):
            what = f"The leaf {leaf_name(path)} is missing or is not {leaf.dtype}{list(leaf.shape)}."
            raise RejectedInput(what, "Use a checkpoint of this algorithm and environment.")
        leaves.append(jnp.array(array))
    if held:
        what = f"The leaf {min(held)} is not part of this algorithm."
        raise RejectedInput(what, "Use a checkpoint of this algorithm and environment.")
    agent: Agent = jax.tree.unflatten(structure, leaves)
    return agent
