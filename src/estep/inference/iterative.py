"""Iterative amortised inference: a network that is fed the gradient of its own objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from jaxtyping import Array, Float

from estep.core.objective import soft_value
from estep.core.slots import Inference, Inferred, Lam, Posterior, Problem
from estep.core.types import Key, Scalar
from estep.inference.starts import AtPrior, added
from estep.nets import Body, Network, mlp, zeros

Encoding = Callable[[Lam, Lam, tuple[int, ...]], tuple[Lam, Lam]]
"""(λ, gradient, sizes of the blocks of λ) to what the network reads of them."""


def log_sign(lam: Lam, grad: Lam, block_sizes: tuple[int, ...]) -> tuple[Lam, Lam]:
    """λ as it is, the gradient as sign(g) log(1 + 10|g|): its size survives over many orders of magnitude."""
    return lam, jnp.sign(grad) * jnp.log1p(10.0 * jnp.abs(grad))


def layer_norm(lam: Lam, grad: Lam, block_sizes: tuple[int, ...]) -> tuple[Lam, Lam]:
    """Each part of λ and of the gradient standardised over its dimensions, without learned affine, as in the authors'
    code; a part of one dimension passes through. It throws the gradient's size away."""
    return _standardise(lam, block_sizes), _standardise(grad, block_sizes)


def raw(lam: Lam, grad: Lam, block_sizes: tuple[int, ...]) -> tuple[Lam, Lam]:
    """Both as they are."""
    return lam, grad


def _standardise(x: Lam, block_sizes: tuple[int, ...]) -> Lam:
    cuts = [sum(block_sizes[:i]) for i in range(1, len(block_sizes))]
    return jnp.concatenate([_standardise_part(part) for part in jnp.split(x, cuts)])


def _standardise_part(part: Float[Array, " n"]) -> Float[Array, " n"]:
    n = part.shape[0]
    if n == 1:
        return part
    unit = jnp.maximum(jnp.abs(part).max(), 1e-30)  # the squares of huge gradients would overflow
    scaled = part / unit
    deviation = scaled - scaled.mean()
    return deviation / (jnp.sqrt(jnp.square(deviation).sum() / (n - 1)) + 1e-7 / jnp.maximum(unit, 1.0))


@dataclass(frozen=True)
class Iterations:
    """How long to infer: a change to the settings of `Iterative`."""

    steps: int
    samples: int
    average: int = 1

    def __call__(self, inference: Any) -> Any:
        return replace(inference, steps=self.steps, samples=self.samples, average=self.average)


class Iterative(Inference):
    """λ ← B(ω ⊙ λ + (1 - ω) ⊙ δ), (δ, ω) = f_φ(s, λ, -∇_λ V), a fixed number of times (the poster's gated update;
    Marino et al. 2021, arXiv:2010.10670), from a fixed start or from where another optimiser ends.

    Every iterate is trained and no gradient crosses an iteration: the objective is the mean of V(λ_k) over
    k = 1..N, and λ_k depends on φ through its own update alone. The gradient of V at λ_k is at once what trains
    iteration k and what iteration k + 1 reads, from the same draws, so one inference costs N evaluations of the
    critic, and the climb one more. Draws are fresh at every iterate: with common ones the network would learn to
    fit the sample that the gradient reveals.

    A start that has parameters is trained to climb V at λ_0, by the gradient that iteration 1 reads anyway.
    """

    net: Network
    low: Float[Array, " k"]
    high: Float[Array, " k"]
    steps: int = eqx.field(static=True)
    samples: int = eqx.field(static=True)
    encoding: Encoding = eqx.field(static=True, default=log_sign)
    start: Inference = AtPrior()
    average: int = eqx.field(static=True, default=1)
    """How many of the last iterates the result is the mean of; training wants the last one alone."""

    def evaluations(self, choices: int | None = None) -> tuple[int, int]:
        return added(self.start.evaluations(choices), self.steps * (choices or self.samples), gradients=True)

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        def objective(lam: Lam, key: Key) -> Scalar:
            return soft_value(posterior(lam), problem, key, self.samples)[0]

        def iteration(lam: Lam, key: Key) -> tuple[Lam, tuple[Scalar, Scalar, Lam, Scalar]]:
            value, grad = jax.value_and_grad(objective)(sg(lam), key)
            grad = sg(grad)
            new, gate = self.refine(problem, posterior, sg(lam), -grad)
            return new, (value, grad @ lam, new, sg(gate).mean())

        k_start, k_steps = jax.random.split(key)
        first = self.start(problem, posterior, k_start)
        lam, (values, credit, lams, gates) = jax.lax.scan(iteration, first.lam, jax.random.split(k_steps, self.steps))
        earlier = first.earlier + credit[0] + credit[1:].sum() / self.steps
        penalty = LIMIT_PENALTY * (self.high.sum() - self.low.sum())
        lam = lam if self.average == 1 else lams[-self.average :].mean(0)
        return Inferred(share(lam, self.steps), earlier - penalty, values, {"gate": gates[-1]})

    def path(self, problem: Problem, posterior: Posterior, key: Key, steps: int) -> Float[Array, "k l"]:
        """λ_0 .. λ_steps: where inference goes, also beyond the number of iterations it was trained with."""

        def iteration(lam: Lam, key: Key) -> tuple[Lam, Lam]:
            grad = jax.grad(lambda lam: soft_value(posterior(lam), problem, key, self.samples)[0])(lam)
            new, _ = self.refine(problem, posterior, lam, -grad)
            return new, new

        k_start, k_steps = jax.random.split(key)
        start = self.start(problem, posterior, k_start).lam
        lams = jax.lax.scan(iteration, start, jax.random.split(k_steps, steps))[1]
        return jnp.concatenate([start[None], lams])

    def refine(self, problem: Problem, posterior: Posterior, lam: Lam, grad: Lam) -> tuple[Lam, Lam]:
        """One gated update of λ, given the gradient of -V there; and the gates ω."""
        delta, gate = jnp.split(self.net(problem.obs, *self.encoding(lam, grad, posterior.block_sizes)), 2)
        omega = jax.nn.sigmoid(gate)
        return posterior.bound(omega * lam + (1.0 - omega) * delta, self.low, self.high), omega


LIMIT_PENALTY = 0.01
"""Weight of the pull on the learned limits of log σ (from the authors' code)."""


def share(lam: Lam, steps: int) -> Lam:
    """λ, with its gradient divided by the number of iterates: the last one is one term of their mean."""
    return sg(lam) + (lam - sg(lam)) / steps


def iterative(
    observation: int,
    posterior: Posterior,
    hidden: Sequence[int] | Body,
    iterations: Iterations,
    encoding: Encoding = log_sign,
    start: Inference | None = None,
    *,
    key: Key,
) -> Iterative:
    """A fresh optimiser: heads at zero, so every iteration halves λ at first; limits of log σ start at -10 and 0.5.
    Without a start of its own it begins where the family does under the prior."""
    size = sum(posterior.block_sizes)
    net = mlp((observation, size, size), 2 * size, hidden, key=key, head=zeros)
    low, high = (jnp.full(posterior.num_scales, limit, float) for limit in (-10.0, 0.5))
    return Iterative(net, low, high, iterations.steps, iterations.samples, encoding, start or AtPrior())
