"""Iterative amortised inference: a network whose inputs are λ and the gradient of the objective there."""

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
from estep.nets import Body, Network, network, zeros

Encoding = Callable[[Lam, Lam, tuple[int, ...]], tuple[Lam, Lam]]
"""λ and the gradient as inputs of the network.

Args:
    lam: λ.
    grad: the gradient of -V at λ.
    block_sizes: sizes of the blocks of λ.
"""


def log_sign(lam: Lam, grad: Lam, block_sizes: tuple[int, ...]) -> tuple[Lam, Lam]:
    """An `Encoding`: λ as it is, and sign(g) log(1 + 10|g|), which keeps the size of g over many orders of magnitude.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.inference.iterative import log_sign
        >>> lam, grad = log_sign(jnp.zeros(2), jnp.asarray([-1e4, 0.0]), (1, 1))
        >>> round(float(grad[0]), 1)  # -log(1 + 10⁵)
        -11.5
    """
    return lam, jnp.sign(grad) * jnp.log1p(10.0 * jnp.abs(grad))


def layer_norm(lam: Lam, grad: Lam, block_sizes: tuple[int, ...]) -> tuple[Lam, Lam]:
    """An `Encoding`: each block of λ and of the gradient standardised over its dimensions.

    There are no learned scales and shifts, as in the code of Marino et al. A block of one dimension stays as it is. The
    size of the gradient is lost.
    """
    return _standardise(lam, block_sizes), _standardise(grad, block_sizes)


def raw(lam: Lam, grad: Lam, block_sizes: tuple[int, ...]) -> tuple[Lam, Lam]:
    """An `Encoding`: both as they are."""
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
    """How long to infer: settings of `Iterative`, as a change to an optimiser."""

    steps: int
    samples: int
    average: int = 1

    def __call__(self, inference: Any) -> Any:
        return replace(inference, steps=self.steps, samples=self.samples, average=self.average)


class Iterative(Inference):
    """λ ← B(ω ⊙ λ + (1 - ω) ⊙ δ), (δ, ω) = f_φ(s, λ, -∇_λ V), N times.

    λ_0 is a fixed start or the λ of another optimiser. B bounds the log scales.

    Training: the objective is the mean of V(λ_k) over k = 1..N. No gradient flows from one iteration to the one before:
    λ_k depends on φ through its own update alone. The gradient of V at λ_k trains iteration k and is also the input of
    iteration k + 1, from the same samples. So one inference costs N evaluations of the critic, and the E-step one more.
    Each iterate has new samples: with common ones, the network would fit the samples that the gradient reveals.

    A start with parameters is trained to maximise V at λ_0, by the gradient that is the input of iteration 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import make_key
        >>> from estep.core.slots import Problem
        >>> from estep.families.gaussian import Gaussian
        >>> from estep.inference.iterative import Iterations, iterative
        >>> from estep.priors.gaussian import FixedGaussian
        >>> prior = FixedGaussian(jnp.full(1, 8.0), jnp.ones(1))
        >>> problem = Problem(jnp.zeros(3), prior, lambda problem, u, key: 2 * u[0], jnp.asarray(1.0))
        >>> fresh = iterative(3, Gaussian(action=1), (8,), Iterations(steps=3, samples=2), key=make_key(0))
        >>> print(fresh.path(problem, Gaussian(action=1), make_key(1), steps=3)[:, 0])  # a fresh network halves λ
        [8. 4. 2. 1.]

    Source:
        Marino et al. 2021, arXiv:2010.10670, and the gated update of their poster.
    """

    net: Network
    low: Float[Array, " k"]
    high: Float[Array, " k"]
    steps: int = eqx.field(static=True)
    samples: int = eqx.field(static=True)
    encoding: Encoding = eqx.field(static=True, default=log_sign)
    start: Inference = AtPrior()
    average: int = eqx.field(static=True, default=1)
    """The result is the mean of so many of the last iterates; in training, 1."""

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
        """λ_0 .. λ_steps, also for more iterations than the optimiser was trained with.

        Args:
            problem: the state, p, Q̂ and α.
            posterior: the family of q.
            key: a random key. The samples are the same at every iterate.
            steps: how many iterations.
        """

        def iteration(lam: Lam, key: Key) -> tuple[Lam, Lam]:
            grad = jax.grad(lambda lam: soft_value(posterior(lam), problem, key, self.samples)[0])(lam)
            new, _ = self.refine(problem, posterior, lam, -grad)
            return new, new

        k_start, k_steps = jax.random.split(key)
        start = self.start(problem, posterior, k_start).lam
        lams = jax.lax.scan(iteration, start, jax.random.split(k_steps, steps))[1]
        return jnp.concatenate([start[None], lams])

    def refine(self, problem: Problem, posterior: Posterior, lam: Lam, grad: Lam) -> tuple[Lam, Lam]:
        """One gated update.

        Args:
            problem: the state.
            posterior: the family of q.
            lam: λ.
            grad: the gradient of -V at λ.

        Returns:
            The new λ, and the gates ω.
        """
        delta, gate = jnp.split(self.net(problem.obs, *self.encoding(lam, grad, posterior.block_sizes)), 2)
        omega = jax.nn.sigmoid(gate)
        return posterior.bound(omega * lam + (1.0 - omega) * delta, self.low, self.high), omega


LIMIT_PENALTY = 0.01
"""Weight of the pull on the learned limits of log σ (from the authors' code)."""


def share(lam: Lam, steps: int) -> Lam:
    """λ, with its gradient divided by the number of iterates: V at the last iterate is one term of the mean."""
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
    """A fresh optimiser. Its last layer is zero, so that at first every iteration halves λ.

    The limits of log σ are learned; they start at -10 and 0.5.

    Args:
        observation: size of the observation.
        posterior: the family of q.
        hidden: sizes of the hidden layers, or a `Body`.
        iterations: how long to infer.
        encoding: how the network reads λ and the gradient.
        start: the optimiser that gives λ_0; None for the prior, where the family has it.
        key: a random key.
    """
    size = sum(posterior.block_sizes)
    net = network((observation, size, size), 2 * size, hidden, key=key, head=zeros)
    low, high = (jnp.full(posterior.num_scales, limit, float) for limit in (-10.0, 0.5))
    return Iterative(net, low, high, iterations.steps, iterations.samples, encoding, start or AtPrior())
