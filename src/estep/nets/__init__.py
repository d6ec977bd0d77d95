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
    parts,
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
    "OwnHeads",
    "Seeing",
    "Simba",
    "SimbaV2",
    "WithFeatures",
    "critic_body",
    "glorot",
    "layer_norm",
    "mlp",
    "network",
    "part_of",
    "parts",
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
    tasks: int = 0
    """How many output layers there are, one for each task; 0 for one in all."""


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


class OwnHeads(eqx.Module):
    """A network with an output layer for each task. The other layers are shared and see the state without the task."""

    net: MLP | Simba | SimbaV2 | WithFeatures
    """Its outputs are those of all tasks, one after the other."""
    tasks: int = eqx.field(static=True)

    def __call__(self, obs: Float[Array, " o"], *inputs: Float[Array, " _"]) -> Float[Array, " k"]:
        outputs = self.net(obs[: -self.tasks], *inputs).reshape(self.tasks, -1)
        return obs[-self.tasks :] @ outputs


class Seeing(eqx.Module):
    """A network that sees some numbers of the state."""

    net: MLP | Simba | SimbaV2 | WithFeatures
    places: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, obs: Float[Array, " o"], *inputs: Float[Array, " _"]) -> Float[Array, " k"]:
        return self.net(part_of(obs, self.places), *inputs)


def part_of(obs: Float[Array, " o"], places: tuple[int, ...]) -> Float[Array, " p"]:
    """The numbers of an observation at some places; the number 1 where there is no place.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.nets import part_of
        >>> print(part_of(jnp.asarray([5.0, 6.0, 7.0]), (0, 2)), part_of(jnp.zeros(3), ()))
        [5. 7.] [1.]
    """
    return obs[jnp.asarray(places)] if places else jnp.ones(1, obs.dtype)


Network: TypeAlias = MLP | Simba | SimbaV2 | WithFeatures | OwnHeads | Seeing


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
    inside: Any
    if isinstance(net, WithFeatures):
        inside = with_bias(net.head, bias)
        return replace(net, head=inside)
    if isinstance(net, OwnHeads | Seeing):
        inside = with_bias(net.net, jnp.tile(bias, net.tasks if isinstance(net, OwnHeads) else 1))
        return replace(net, net=inside)
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
    if body.tasks:
        sizes = inputs[0] - body.tasks, *inputs[1:]
        shared: Any = network(sizes, output * body.tasks, body._replace(tasks=0), key=key, head=head)
        return OwnHeads(shared, body.tasks)
    if body.features:
        k_own, key = jax.random.split(key)
        own, size = _own(body.features, inputs[0], k_own)
        rest: Any = network((size, *inputs[1:]), output, body._replace(features=""), key=key, head=head)
        return WithFeatures(own, rest)
    activation = ACTIVATIONS[body.activation]
    if body.network == "mlp":
        return mlp(inputs, output, body.hidden_sizes, key=key, activation=activation, norm=body.norm, head=head)
    if body.network == "simba":
        return simba(inputs, output, body.hidden_sizes, key=key, activation=activation, head=head)
    return simba2(inputs, output, body.hidden_sizes, key=key, activation=activation, head=head)
