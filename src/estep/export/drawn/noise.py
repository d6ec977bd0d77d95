"""The random numbers by which an agent draws an action, in the order in which `drawing` asks for them.

With them an exported policy gives the agent's own actions, so that the two can be compared one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from estep.core.types import Key
from estep.export.contract import Noise
from estep.families.categorical import places
from estep.families.noise import antithetic, independent


class Fed:
    """Stands for a generator of NumPy, and gives known numbers."""

    def __init__(self, numbers: Sequence[npt.NDArray[Any]]) -> None:
        """Begin at the first of them.

        Args:
            numbers: the arrays that are asked for, in order.
        """
        self._left = list(numbers)

    def standard_normal(self, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The next numbers, of this shape."""
        return self._left.pop(0).reshape(shape)

    def gumbel(self, size: int) -> npt.NDArray[Any]:
        """The next numbers."""
        return self.standard_normal((size,))


def noise_of(p: Mapping[str, Any], draws: Key, count: int) -> Noise:
    """The random numbers of so many observations, as `act_with_memo` has them.

    Args:
        p: the program.
        draws: the key.
        count: how many.
    """

    def one(key: Key) -> list[Any]:
        k_infer, k_sample = jax.random.split(key)
        return _numbers(p, k_infer, k_sample)

    each = [np.asarray(array) for array in jax.vmap(one)(jax.random.split(draws, count))]
    return [[array[i] for array in each] for i in range(count)]


def _numbers(p: Mapping[str, Any], k_infer: Key, k_sample: Key) -> list[Any]:
    kind, first = p["kind"], jax.random.split(k_infer)[0]
    if kind == "sampler":
        n, a = p["noise"].shape
        return [antithetic(first, n, a)[jax.random.randint(k_sample, (), 0, n)][None]]
    if kind == "weighted":
        n, a = p["noise"].shape
        return [independent(first, n, a), jax.random.gumbel(k_sample, (n,))]
    if kind == "levels":
        z = jax.random.normal(k_infer, (1, p["latent"]))[0]
        # the mixture of one component, as `TwoLevels` draws from it
        return [z, *_sample(p, jax.random.split(k_sample)[1] if p["family"][0] == "gaussian" else k_sample)]
    return [*_iterations(p, k_infer), *_sample(p, k_sample)]


def _iterations(p: Mapping[str, Any], key: Key) -> list[Any]:
    """The noise of each iteration of inference, as `soft_value` draws it."""
    if p["kind"] != "iterative":
        return []
    steps, n, a = p["noise"].shape
    if not n:
        return [jnp.zeros((steps, 0, 0))]
    draw = antithetic if p["pairs"] else independent
    each = [draw(jax.random.split(one)[0], n, a) for one in jax.random.split(jax.random.split(key)[1], steps)]
    return [jnp.stack(each)[:, : (n + 1) // 2 if p["pairs"] else n]]


def _sample(p: Mapping[str, Any], key: Key) -> list[Any]:
    """The noise of a point of a distribution."""
    name, *sizes = p["family"]
    if name == "choices" and len(sizes) == 1:
        return [jax.random.gumbel(key, (sizes[0],))]
    if name == "choices":
        return [jax.random.gumbel(key, (len(sizes), max(sizes)))[places(tuple(sizes))]]
    if name == "mixture":
        k_component, k_noise = jax.random.split(key)
        return [jax.random.gumbel(k_component, (sizes[0],)), jax.random.normal(k_noise, (p["size"],))]
    return [jax.random.normal(key, (p["size"],))]
