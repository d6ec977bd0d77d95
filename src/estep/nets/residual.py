"""Residual, normalised networks: those of SimBa, and of SimbaV2 on the sphere.

All hidden sizes are one width, and each of them is one residual block, which is four times as wide inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.learned import Constrained
from estep.core.types import Key
from estep.nets.mlp import Activation, Initialiser, blocks, glorot, layer_norm, uniform

EXPANSION = 4
"""How many times wider a residual block is inside."""
SHIFT = 3.0
"""An input of every `SimbaV2` that never changes, beside which the size of the others can be seen."""
LEAST_SQUARE = 1e-12
"""Added to the squared length of a vector that is divided by its length: its gradient at 0 is finite."""


def he(fan_in: int, fan_out: int) -> float:
    """An `Initialiser`: √(6 / fan_in), so that the variance is 2 / fan_in.

    Source:
        He et al. 2015, arXiv:1502.01852.
    """
    return float((6.0 / fan_in) ** 0.5)


class Simba(eqx.Module):
    """x ← x + W' g(W layer_norm(x)), block by block, and a linear layer on layer_norm(x).

    The published layer norms have a gain and a bias. A linear layer comes after each of them, which has both. Its
    normalisation of observations is the setting `normalise` of a run.

    Source:
        Lee et al. 2024, arXiv:2410.09754.
    """

    first: tuple[Float[Array, "_ h"], ...]
    up: tuple[Float[Array, "h e"], ...]
    down: tuple[Float[Array, "e h"], ...]
    head: Float[Array, "h o"]
    first_bias: Float[Array, " h"]
    up_biases: tuple[Float[Array, " e"], ...]
    down_biases: tuple[Float[Array, " h"], ...]
    bias: Float[Array, " o"]
    activation: Activation = eqx.field(static=True)

    def __call__(self, *inputs: Float[Array, " _"]) -> Float[Array, " o"]:
        x = self.first_bias
        for one, weight in zip(inputs, self.first, strict=True):
            x = x + one @ weight
        for up, up_bias, down, down_bias in zip(self.up, self.up_biases, self.down, self.down_biases, strict=True):
            x = x + self.activation(layer_norm(x) @ up + up_bias) @ down + down_bias
        return layer_norm(x) @ self.head + self.bias


def simba(
    inputs: Sequence[int], output: int, hidden: Sequence[int], *, key: Key, activation: Activation, head: Initialiser
) -> Simba:
    """A fresh `Simba`: Glorot's weights, He's in the blocks, zero biases. All hidden sizes are equal.

    Args:
        inputs: size of each input.
        output: size of the output.
        hidden: the width, once for each block.
        key: a random key.
        activation: the function inside a block.
        head: initialiser of the output layer.
    """
    n, width = len(hidden), hidden[0]
    inner = EXPANSION * width
    shapes = [(sum(inputs), width), *[(width, inner)] * n, *[(inner, width)] * n, (width, output)]
    drawn = uniform(shapes, [glorot, *[he] * (2 * n), head], key)
    return Simba(
        blocks(drawn[0], inputs),
        tuple(drawn[1 : 1 + n]),
        tuple(drawn[1 + n : -1]),
        drawn[-1],
        jnp.zeros(width),
        tuple(jnp.zeros(inner) for _ in hidden),
        tuple(jnp.zeros(width) for _ in hidden),
        jnp.zeros(output),
        activation,
    )


class SimbaV2(Constrained):
    """x ← |x + α (|W' g(c W x)| - x)|, block by block, where |x| is x over its length, and V (c V' x) + bias.

    The weights that lead to one unit have length 1 together: `projected` puts them there after every step of the
    optimiser. What grows and shrinks are the scales c and α alone. The published network divides its inputs by their
    length, too; that has no effect here, because the layer after them has no bias and its output is divided again.

    Source:
        Lee et al. 2025, arXiv:2502.15280, with one output layer for all of λ.
    """

    first: tuple[Float[Array, "_ h"], ...]
    shift: Float[Array, "1 h"]
    up: tuple[Float[Array, "h e"], ...]
    down: tuple[Float[Array, "e h"], ...]
    last: Float[Array, "h h"]
    head: Float[Array, "h o"]
    first_scale: Float[Array, " h"]
    up_scales: tuple[Float[Array, " e"], ...]
    mixes: tuple[Float[Array, " h"], ...]
    """α, in units of √width / (blocks + 1), so that Adam moves it as fast as weights."""
    last_scale: Float[Array, " h"]
    bias: Float[Array, " o"]
    activation: Activation = eqx.field(static=True)

    def __call__(self, *inputs: Float[Array, " _"]) -> Float[Array, " o"]:
        x = SHIFT * self.shift[0]
        for one, weight in zip(inputs, self.first, strict=True):
            x = x + one @ weight
        x = unit(self.first_scale * x)
        share = x.shape[0] ** 0.5 / (len(self.up) + 1)
        for up, scale, down, mix in zip(self.up, self.up_scales, self.down, self.mixes, strict=True):
            new = unit(self.activation(scale * (x @ up)) @ down)
            x = unit(x + share * mix * (new - x))
        return (self.last_scale * (x @ self.last)) @ self.head + self.bias

    def projected(self) -> SimbaV2:
        together = on_sphere(jnp.concatenate([*self.first, self.shift]))
        sizes = [len(weight) for weight in self.first]
        *first, shift = blocks(together, [*sizes, 1])
        up, down = (tuple(map(on_sphere, weights)) for weights in (self.up, self.down))
        last, head = on_sphere(self.last), on_sphere(self.head)
        return replace(self, first=tuple(first), shift=shift, up=up, down=down, last=last, head=head)


def simba2(
    inputs: Sequence[int], output: int, hidden: Sequence[int], *, key: Key, activation: Activation, head: Initialiser
) -> SimbaV2:
    """A fresh `SimbaV2`: random directions for weights, the published scales, zero bias. All hidden sizes are equal.

    Args:
        inputs: size of each input.
        output: size of the output.
        hidden: the width, once for each block.
        key: a random key.
        activation: the function inside a block.
        head: initialiser of the output layer. Its weights have length 1, so the scales before it are multiplied by
            what this initialiser has over Glorot's.
    """
    n, width = len(hidden), hidden[0]
    inner = EXPANSION * width
    shapes = [(sum(inputs) + 1, width), *[(width, inner)] * n, *[(inner, width)] * n, (width, width), (width, output)]
    drawn = uniform(shapes, [glorot] * len(shapes), key)
    *first, shift = blocks(drawn[0], [*inputs, 1])
    scale = (2.0 / width) ** 0.5
    return SimbaV2(
        tuple(first),
        shift,
        tuple(drawn[1 : 1 + n]),
        tuple(drawn[1 + n : 1 + 2 * n]),
        drawn[-2],
        drawn[-1],
        jnp.full(width, scale),
        tuple(jnp.full(inner, scale / EXPANSION**0.5) for _ in hidden),
        tuple(jnp.full(width, width**-0.5) for _ in hidden),
        jnp.full(width, scale * head(width, output) / glorot(width, output)),
        jnp.zeros(output),
        activation,
    ).projected()


def unit(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """x over its length; 0 stays 0, with a finite gradient."""
    return x * jax.lax.rsqrt(jnp.square(x).sum() + LEAST_SQUARE)


def on_sphere(weight: Float[Array, "i o"]) -> Float[Array, "i o"]:
    """Weights whose columns, those that lead to one unit, have length 1."""
    return weight / jnp.sqrt(jnp.square(weight).sum(0, keepdims=True) + LEAST_SQUARE)
