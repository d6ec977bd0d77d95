"""Multilayer perceptrons: arrays and static fields only, so that plain `jax.jit`, `jax.grad` and `jax.vmap` apply."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.types import Key

Initialiser = Callable[[int, int], float]
"""(fan in, fan out) to the bound of the uniform weights of a layer."""
Activation = Callable[[Array], Array]
"""The function after a hidden layer, element by element."""

ACTIVATIONS: Mapping[str, Activation] = {"relu": jax.nn.relu, "elu": jax.nn.elu, "silu": jax.nn.silu}
"""By name."""


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


def small_init(fan_in: int, fan_out: int) -> float:
    """An `Initialiser`: a hundredth of Glorot's bound, so that a fresh network is nearly the same for every input."""
    return 0.01 * glorot(fan_in, fan_out)


def zeros(fan_in: int, fan_out: int) -> float:
    """An `Initialiser`: all weights 0, so that a fresh network gives 0."""
    return 0.0


def layer_norm(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """The elements less their mean, over their standard deviation, with finite gradients where all are equal.

    Statistics are in float32 at least. The layer has no gain: the next product of weights has one.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.nets import layer_norm
        >>> print(layer_norm(jnp.asarray([1.0, 3.0])), layer_norm(jnp.asarray([5.0, 5.0])))
        [-1.  1.] [0. 0.]

    Source:
        Ba, Kiros & Hinton 2016, arXiv:1607.06450.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    # less any one element first: the mean of numbers that have a large part in common would be rounded to that part
    near = wide - jax.lax.stop_gradient(wide[0])
    deviation = near - near.mean()
    return (deviation * jax.lax.rsqrt(jnp.square(deviation).mean() + LEAST_VARIANCE)).astype(x.dtype)


LEAST_VARIANCE = 1e-8
"""Added to the variance of a layer: a gradient at equal elements is multiplied by 1e4 at most."""


class MLP(eqx.Module):
    """A multilayer perceptron of one or several inputs.

    Each input has its own block of the weights of the first layer. So the product with the state is computed once for
    any number of actions: under `vmap` over actions it has no batch axis. With `norm`, each hidden layer is normalised
    before its bias is added, and the first one once the blocks of its inputs are summed.
    """

    first: tuple[Float[Array, "_ _"], ...]
    rest: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    activation: Activation = eqx.field(static=True)
    norm: bool = eqx.field(static=True, default=False)

    def __call__(self, *inputs: Float[Array, " _"]) -> Float[Array, " o"]:
        hidden = jnp.zeros_like(self.biases[0]) if self.norm else self.biases[0]
        for x, weight in zip(inputs, self.first, strict=True):
            hidden = hidden + x @ weight
        if self.norm:
            hidden = layer_norm(hidden) + self.biases[0]
        for weight, bias in zip(self.rest[:-1], self.biases[1:-1], strict=True):
            hidden = self.activation(hidden) @ weight
            hidden = (layer_norm(hidden) if self.norm else hidden) + bias
        return self.activation(hidden) @ self.rest[-1] + self.biases[-1]


def mlp(
    inputs: Sequence[int],
    output: int,
    hidden: Sequence[int],
    *,
    key: Key,
    activation: Activation = jax.nn.relu,
    norm: bool = False,
    head: Initialiser = glorot,
) -> MLP:
    """A fresh perceptron with Glorot's weights and zero biases.

    Args:
        inputs: size of each input.
        output: size of the output.
        hidden: sizes of the hidden layers, at least one.
        key: a random key.
        activation: the function after each hidden layer.
        norm: whether hidden layers are normalised before it.
        head: initialiser of the output layer.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import make_key
        >>> from estep.nets import mlp
        >>> net = mlp(inputs=(3, 2), output=4, hidden=(8, 8), key=make_key(0))
        >>> net(jnp.zeros(3), jnp.zeros(2)).shape
        (4,)
    """
    sizes = (sum(inputs), *hidden, output)
    layers = uniform(list(pairwise(sizes)), [glorot] * len(hidden) + [head], key)
    return MLP(blocks(layers[0], inputs), tuple(layers[1:]), tuple(jnp.zeros(n) for n in sizes[1:]), activation, norm)


def uniform(shapes: Sequence[tuple[int, int]], bounds: Sequence[Initialiser], key: Key) -> list[Float[Array, "_ _"]]:
    """Fresh weights of several layers, uniform within the bounds of each.

    Args:
        shapes: (fan in, fan out) of each layer.
        bounds: the initialiser of each.
        key: a random key.
    """
    # one call for all layers: every call of the generator is a kernel to compile
    ends = [sum(i * o for i, o in shapes[:k]) for k in range(1, len(shapes))]
    drawn = jnp.split(jax.random.uniform(key, (sum(i * o for i, o in shapes),), minval=-1.0, maxval=1.0), ends)
    return [bound(i, o) * d.reshape(i, o) for (i, o), d, bound in zip(shapes, drawn, bounds, strict=True)]


def blocks(weight: Float[Array, "_ _"], inputs: Sequence[int]) -> tuple[Float[Array, "_ _"], ...]:
    """The weights of a first layer, as one block for each input."""
    return tuple(jnp.split(weight, [sum(inputs[:i]) for i in range(1, len(inputs))]))


def parts(x: Float[Array, " n"], sizes: Sequence[int]) -> list[Float[Array, " _"]]:
    """The parts of a vector, one after the other. A number that is not finite makes all of them NaN.

    They are products with matrices of 0 and 1, so their gradient is a product too. That of slices is fused on a CPU
    with all that follows, which is then computed for every part at every place: 2.6 of the 11 ms of a model's update.

    Args:
        x: the vector.
        sizes: those of the parts, whose sum is n.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.nets import parts
        >>> print(*parts(jnp.asarray([1.0, 2.0, 3.0]), (2, 1)))
        [1. 2.] [3.]
    """
    ends = [sum(sizes[:i]) for i in range(1, len(sizes))]
    exact = jax.lax.Precision.HIGHEST  # some accelerators round the inputs of products
    return [
        jnp.matmul(x, chosen, precision=exact) for chosen in jnp.split(jnp.eye(x.size, dtype=x.dtype), ends, axis=1)
    ]


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
