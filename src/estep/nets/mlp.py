"""Networks: arrays and static fields only, so that plain `jax.jit`, `jax.grad` and `jax.vmap` apply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.types import Key
from estep.errors import UsageError
from estep.settings import references

Initialiser = Callable[[int, int], float]
"""(fan in, fan out) to the bound of the uniform weights of a layer."""
FeatureMaker: TypeAlias = Callable[[int, Key], Callable[[Array], Array]]
"""(obs_dim, key) to a fresh network from one observation [obs_dim] to features [f]."""


def glorot(fan_in: int, fan_out: int) -> float:
    """An `Initialiser`: √(6 / (fan_in + fan_out)), so that the variance is 2 / (fan_in + fan_out).

    Example:
        >>> from estep.nets import glorot
        >>> glorot(3, 3)
        1.0

    Source:
        Glorot & Bengio 2010.
    """
    return float((6.0 / (fan_in + fan_out)) ** 0.5)


def zeros(fan_in: int, fan_out: int) -> float:
    """An `Initialiser`: all weights 0, so that a fresh network gives 0."""
    return 0.0


class MLP(eqx.Module):
    """A multilayer perceptron of one or several inputs.

    Each input has its own block of the weights of the first layer. So the product with the state is computed once for
    any number of actions: under `vmap` over actions it has no batch axis.
    """

    first: tuple[Float[Array, "_ _"], ...]
    rest: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __call__(self, *inputs: Float[Array, " _"]) -> Float[Array, " o"]:
        hidden = self.biases[0]
        for x, weight in zip(inputs, self.first, strict=True):
            hidden = hidden + x @ weight
        for weight, bias in zip(self.rest, self.biases[1:], strict=True):
            hidden = self.activation(hidden) @ weight + bias
        return hidden


class Body(NamedTuple):
    """How the networks of an agent are built."""

    hidden_sizes: tuple[int, ...]
    features: str | FeatureMaker = ""
    """A `FeatureMaker` or its `module:function`: it makes a network in front of each network; "" for none."""


class Own(eqx.Module):
    """Your callable from an observation to features. Its arrays of floats are trained, and nothing else in it."""

    parameters: Any
    rest: Any = eqx.field(static=True)

    def __call__(self, obs: Float[Array, " o"]) -> Float[Array, " f"]:
        found: Array = eqx.combine(self.parameters, self.rest)(obs)
        return found


class WithFeatures(eqx.Module):
    """A network whose first input passes through a network of yours."""

    features: Own
    head: MLP

    def __call__(self, obs: Float[Array, " o"], *inputs: Float[Array, " _"]) -> Float[Array, " k"]:
        return self.head(self.features(obs), *inputs)


Network: TypeAlias = MLP | WithFeatures


def _own(maker: str | FeatureMaker, obs_dim: int, key: Key) -> tuple[Own, int]:
    """Fresh features for observations of this size, and how many there are."""
    name, takes = str(maker), "obs_dim and a key"
    made = references.call(references.resolve(maker) if isinstance(maker, str) else maker, name, (obs_dim, key), takes)
    own = Own(*eqx.partition(made, eqx.is_inexact_array))
    shape = references.call(lambda obs: jax.eval_shape(own, obs), name, (jnp.zeros(obs_dim),), "one observation").shape
    if len(shape) != 1:
        raise UsageError(f"The features of {name} have the shape {shape}.", "Give one vector for one observation.")
    return own, shape[0]


def with_bias(net: Network, bias: Float[Array, " k"]) -> Network:
    """The network with another bias of its last layer."""
    if isinstance(net, WithFeatures):
        return replace(net, head=replace(net.head, biases=(*net.head.biases[:-1], bias)))
    return replace(net, biases=(*net.biases[:-1], bias))


def mlp(
    inputs: Sequence[int],
    output: int,
    hidden: Sequence[int] | Body,
    *,
    key: Key,
    activation: Callable[[Array], Array] = jax.nn.relu,
    head: Initialiser = glorot,
) -> Network:
    """A fresh network with Glorot's weights and zero biases.

    Args:
        inputs: size of each input.
        output: size of the output.
        hidden: sizes of the hidden layers, at least one; or a `Body`, which may put your own network in front of the
            first input.
        key: a random key.
        activation: the function after each hidden layer.
        head: initialiser of the output layer.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import make_key
        >>> from estep.nets import mlp
        >>> net = mlp(inputs=(3, 2), output=4, hidden=(8, 8), key=make_key(0))
        >>> net(jnp.zeros(3), jnp.zeros(2)).shape
        (4,)
    """
    body = hidden if isinstance(hidden, Body) else Body(tuple(hidden))
    if body.features:
        k_own, key = jax.random.split(key)
        own, size = _own(body.features, inputs[0], k_own)
        rest = mlp((size, *inputs[1:]), output, body.hidden_sizes, key=key, activation=activation, head=head)
        assert isinstance(rest, MLP)
        return WithFeatures(own, rest)
    hidden = body.hidden_sizes
    sizes = (sum(inputs), *hidden, output)
    schemes = [glorot] * len(hidden) + [head]
    shapes = list(pairwise(sizes))
    # one call for all layers: every call of the generator is a kernel to compile
    ends = [sum(i * o for i, o in shapes[:k]) for k in range(1, len(shapes))]
    drawn = jnp.split(jax.random.uniform(key, (sum(i * o for i, o in shapes),), minval=-1.0, maxval=1.0), ends)
    layers = [scheme(i, o) * d.reshape(i, o) for (i, o), d, scheme in zip(shapes, drawn, schemes, strict=True)]
    cuts = [sum(inputs[:i]) for i in range(1, len(inputs))]
    biases = tuple(jnp.zeros(n) for n in sizes[1:])
    return MLP(tuple(jnp.split(layers[0], cuts)), tuple(layers[1:]), biases, activation)


def soft_bound(x: Array, low: Array, high: Array) -> Array:
    """x moved smoothly into [low, high + log(1 + exp(low - high))], with a positive slope everywhere.

    Near a limit it bends: inside the limits it is not the identity.

    Args:
        x: numbers.
        low: lower limits, of the same shape.
        high: upper limits, of the same shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.nets import soft_bound
        >>> x, one = jnp.asarray([-99.0, 0.0, 99.0]), jnp.ones(3)
        >>> print(soft_bound(x, -10 * one, 10 * one).round(2))
        [-10.   0.  10.]

    Source:
        Chua et al. 2018, appendix A.1.
    """
    x = high - jax.nn.softplus(high - x)
    return low + jax.nn.softplus(x - low)
