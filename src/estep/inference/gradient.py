"""Gradient ascent on V without a network; started by an amortised optimiser, it is semi-amortised inference."""

from __future__ import annotations

import functools as ft
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.lax import stop_gradient as sg

from estep.core.objective import soft_value
from estep.core.optim import Optimiser, adam
from estep.core.slots import Inference, Inferred, Lam, Posterior, Problem
from estep.core.types import Action, Key, Scalar
from estep.inference.starts import AtPrior, added, begin, clip


class GradientAscent(Inference):
    """λ ← λ + step(∂V/∂λ), K times, with new reparameterised samples at every step.

    λ has log σ, so a scale stays positive. A gradient that is not finite moves nothing.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from estep import make_key
        >>> from estep.core.optim import adam
        >>> from estep.core.slots import Problem
        >>> from estep.families.gaussian import Gaussian
        >>> from estep.families.noise import antithetic
        >>> from estep.inference.gradient import GradientAscent
        >>> from estep.priors.gaussian import FixedGaussian
        >>> prior = FixedGaussian(jnp.zeros(1), jnp.ones(1))
        >>> problem = Problem(jnp.zeros(3), prior, lambda problem, u, key: 2 * u[0], jnp.asarray(1.0))
        >>> ascent = GradientAscent(steps=200, samples=2, tx=adam(0.1))
        >>> lam = ascent(problem, Gaussian(action=1, noise=antithetic), make_key(0)).lam
        >>> bool(jnp.abs(lam - jnp.asarray([2.0, 0.0])).max() < 0.2)  # the posterior is N(2, 1)
        True
    """

    steps: int = eqx.field(static=True)
    """K."""
    samples: int = eqx.field(static=True, default=10)
    """Samples of q in each gradient."""
    tx: Optimiser = eqx.field(static=True, default=adam(1e-2))
    start: Inference = AtPrior()
    low: float = eqx.field(static=True, default=-10.0)
    high: float = eqx.field(static=True, default=2.0)
    """Limits of the log scales."""

    def start_action(self, problem: Problem, posterior: Posterior, key: Key) -> Action:
        return self.start.start_action(problem, posterior, key)

    def evaluations(self, choices: int | None = None) -> tuple[int, int]:
        return added(self.start.evaluations(choices), self.steps * (choices or self.samples), gradients=True)

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        def objective(lam: Lam, key: Key) -> Scalar:
            return soft_value(posterior(lam), problem, key, self.samples)[0]

        def step(carry: tuple[Lam, Any], key: Key) -> tuple[tuple[Lam, Any], Scalar]:
            lam, state = carry
            value, grad = jax.value_and_grad(objective)(lam, key)
            sound = jnp.isfinite(grad).all()
            updates, state = self.tx.update(jnp.where(sound, -grad, 0.0), state, lam, sound=sound)
            return (clip(lam + updates, posterior, self.low, self.high), state), value

        k_start, k_steps = jax.random.split(key)
        first = begin(self.start, problem, posterior, k_start, self.samples)
        carry = first.lam, self.tx.init(first.lam)
        (lam, _), values = jax.lax.scan(step, carry, jax.random.split(k_steps, self.steps))
        return Inferred(sg(lam), first.earlier, jnp.concatenate([first.values, values]))


def semi_amortised(amortised: Inference, ascent: GradientAscent) -> GradientAscent:
    """K gradient steps from the λ of an amortised optimiser.

    The amortised optimiser is trained as it is alone: `Inferred.earlier` has its own surrogate and the gradient of V at
    its λ. No gradient flows through the K steps.

    Source:
        Kim et al. 2018, arXiv:1802.02550.
    """
    return replace(ascent, start=amortised)


@ft.cache
def sgd(learning_rate: float) -> Optimiser:
    """Plain gradient steps. The function is cached, as those of `core.optim` are."""
    return optax.with_extra_args_support(optax.sgd(learning_rate))
