"""How the networks of an agent are built. A `Body` says which kind they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.types import Key
from estep.errors import UsageError
from estep.nets.mlp import (
    ACTIVATIONS,
    MLP,
    Activation,
    Initialiser,
    glorot,
    layer_norm,
    mlp,
    small_init,
    soft_bound,
    zeros,
)
from estep.nets.residual import Simba, SimbaV2, simba, simba2
from estep.settings import references

__all__ = [
    "MLP",
    "Activation",
    "Body",
    "FeatureMaker",
    "Initialiser",
    "Network",
    "Own",
    "Simba",
    "SimbaV2",
    "WithFeatures",
    "critic_body",
    "glorot",
    "layer_norm",
    "mlp",
    "network",
    "policy_body",
    "small_init",
    "soft_bound",
    "with_bias",
    "zeros",
]

FeatureMaker: TypeAlias = Callable[[int, Key], Callable[[Array], Array]]
"""(obs_dim, key) to a fresh network from one observation [obs_dim] to features [f]."""


class Body(NamedTuple):
    """How the networks of an agent are built."""

    hidden_sizes: tuple[int, ...]
    features: str | FeatureMaker = ""
    """A `FeatureMaker` or its `module:function`: it makes a network in front of each network; "" for none."""
    network: str = "mlp"
    """"mlp", "simba" or "simba2"."""
    norm: bool = False
    """Whether hidden layers of an `MLP` are normalised."""
    activation: str = "relu"
    """A name in ACTIVATIONS."""


def policy_body(settings: Any) -> Body:
    """What all networks of an algorithm but its critic are built like."""
    return Body(settings.hidden_sizes, settings.features, settings.network)


def critic_body(settings: Any) -> Body:
    """What the critic of an algorithm is built like."""
    sizes = settings.critic_hidden_sizes or settings.hidden_sizes
    norm = settings.critic_norm == "layer"
    return Body(sizes, settings.features, settings.network, norm, settings.critic_activation)


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
    head: MLP | Simba | SimbaV2

    def __call__(self, obs: Float[Array, " o"], *inputs: Float[Array, " _"]) -> Float[Array, " k"]:
        return self.head(self.features(obs), *inputs)


Network: TypeAlias = MLP | Simba | SimbaV2 | WithFeatures


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
        head = with_bias(net.head, bias)
        assert not isinstance(head, WithFeatures)
        return replace(net, head=head)
    if isinstance(net, MLP):
        return replace(net, biases=(*net.biases[:-1], bias))
    return replace(net, bias=bias)


def network(
    inputs: Sequence[int], output: int, hidden: Sequence[int] | Body, *, key: Key, head: Initialiser = glorot
) -> Network:
    """A fresh network.

    Args:
        inputs: size of each input.
        output: size of the output.
        hidden: sizes of the hidden layers of an `MLP`, or a `Body`, which may put your own network in front of the
            first input.
        key: a random key.
        head: initialiser of the output layer.

    Raises:
        UsageError: the features of the body are no network.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import make_key
        >>> from estep.nets import Body, network
        >>> net = network((3, 2), 4, Body((8, 8), network="simba2"), key=make_key(0))
        >>> net(jnp.zeros(3), jnp.zeros(2)).shape
        (4,)
    """
    body = hidden if isinstance(hidden, Body) else Body(tuple(hidden))
    if body.features:
        k_own, key = jax.random.split(key)
        own, size = _own(body.features, inputs[0], k_own)
        rest = network((size, *inputs[1:]), output, body._replace(features=""), key=key, head=head)
        assert not isinstance(rest, WithFeatures)
        return WithFeatures(own, rest)
    activation = ACTIVATIONS[body.activation]
    if body.network == "mlp":
        return mlp(inputs, output, body.hidden_sizes, key=key, activation=activation, norm=body.norm, head=head)
    if body.network == "simba":
        return simba(inputs, output, body.hidden_sizes, key=key, activation=activation, head=head)
    return simba2(inputs, output, body.hidden_sizes, key=key, activation=activation, head=head)
