"""Where an optimiser starts, which is where another one ended; and many random starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from jaxtyping import Array, Bool, Float

from estep.core.objective import soft_value
from estep.core.slots import Inference, Inferred, Lam, Posterior, Problem
from estep.core.types import Key, Scalar
from estep.errors import UsageError, check


@runtime_checkable
class Starting(Protocol):
    """An optimiser that starts where another one ends."""

    start: Inference


class AtPrior(Inference):
    """λ_0 of the family: the prior where the family holds it, else a fixed place."""

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        return one_shot(posterior.start(problem.prior(problem.obs)))


class At(Inference):
    """A given λ, in every state."""

    lam: Lam

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        return one_shot(self.lam)


class Scattered(Inference):
    """λ + scale·ε around where another optimiser ends, ε standard normal in every element but the log scales: a start
    that is too wide has gradients that an adaptive step size is long to forget."""

    centre: Inference
    scale: float = eqx.field(static=True)

    def evaluations(self, choices: int | None = None) -> tuple[int, int]:
        return self.centre.evaluations(choices)

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        k_centre, k_noise = jax.random.split(key)
        inferred = self.centre(problem, posterior, k_centre)
        noise = jax.random.normal(k_noise, inferred.lam.shape, inferred.lam.dtype)
        moved = jnp.where(log_scales(posterior, inferred.lam), 0.0, self.scale * noise)
        return inferred._replace(lam=inferred.lam + moved)


class Restarts(Inference):
    """The best, by V, of n runs of an optimiser: one from its own start, the others from random ones around it."""

    inference: Inference
    n: int = eqx.field(static=True)
    """At least 2."""
    scale: float = eqx.field(static=True, default=1.0)
    """Standard deviation of the starts around the optimiser's own, in units of λ (of u, for a mean)."""
    samples: int = eqx.field(static=True, default=100)
    """Draws, the same for all runs, with which they are judged."""

    def __check_init__(self) -> None:
        check("restarts", self.n >= 2, self.n, "at least 2, one of which is the optimiser's own start")

    def evaluations(self, choices: int | None = None) -> tuple[int, int]:
        once = self.inference.evaluations(choices)
        return self.n * (once[0] + self.samples), self.n * once[1]

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        runs, values = self.runs(problem, posterior, key)
        best = jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values))
        return Inferred(runs.lam[best], runs.earlier.mean(), runs.values[best])

    def runs(self, problem: Problem, posterior: Posterior, key: Key) -> tuple[Inferred, Float[Array, " n"]]:
        """All runs, stacked, and V where each ends."""
        k_own, k_run, k_judge = jax.random.split(key, 3)
        run: Inference = starting(self.inference, Scattered(start_of(self.inference), self.scale))
        own = self.inference(problem, posterior, k_own)
        others = jax.vmap(lambda key: run(problem, posterior, key))(jax.random.split(k_run, self.n - 1))
        inferred = jax.tree.map(lambda one, many: jnp.concatenate([one[None], many]), own, others)

        def judge(lam: Lam) -> Scalar:
            return soft_value(posterior(lam), problem, k_judge, self.samples)[0]

        return inferred, jax.vmap(judge)(sg(inferred.lam))


def distinct_modes(lams: Float[Array, "n l"], values: Float[Array, " n"], tol: float) -> Bool[Array, " n"]:
    """Which of n solutions are modes of their own: from the best down, each that is further than `tol`, in some
    element of λ, from all that were kept before it."""
    far = jnp.abs(lams[:, None] - lams[None]).max(-1) > tol

    def consider(kept: Bool[Array, " n"], i: Array) -> tuple[Bool[Array, " n"], None]:
        return kept.at[i].set((far[i] | ~kept).all()), None

    nothing = jnp.zeros(values.shape[0], bool)
    kept: Array = jax.lax.scan(consider, nothing, jnp.argsort(-values))[0]
    return kept


def starting(inference: Any, start: Inference) -> Any:
    """The same optimiser from another start.

    Raises:
        UsageError: the optimiser has no start.
    """
    start_of(inference)
    return replace(inference, start=start)


def start_of(inference: Any) -> Inference:
    """Where an optimiser starts, itself an optimiser.

    Raises:
        UsageError: the optimiser has no start.
    """
    if not isinstance(inference, Starting):
        raise UsageError(
            f"{type(inference).__name__} does not start anywhere.", "Use an optimiser that takes a `start`."
        )
    return inference.start


def begin(start: Inference, problem: Problem, posterior: Posterior, key: Key, samples: int) -> Inferred:
    """λ_0 as a number, and what trains the start if it has parameters.

    A start is trained as it would be by itself: to climb V at its own λ. So `earlier` gains ⟨sg ∂V/∂λ_0, λ_0⟩, whose
    gradient is that of V there, and no gradient comes from beyond λ_0. Q̂ is differentiated only if there is
    something to train.
    """
    k_start, k_value = jax.random.split(key)
    first = start(problem, posterior, k_start)
    lam = sg(first.lam)
    if not jax.tree.leaves(start):
        return first._replace(lam=lam)
    grad = sg(jax.grad(lambda lam: soft_value(posterior(lam), problem, k_value, samples)[0])(lam))
    return Inferred(lam, first.earlier + grad @ first.lam, first.values)


def added(start: tuple[int, int], evaluations: int, gradients: bool = False) -> tuple[int, int]:
    """The cost of an optimiser: that of its start, and its own evaluations of Q̂, with gradients or without."""
    return start[0] + evaluations, start[1] + (evaluations if gradients else 0)


def one_shot(lam: Lam) -> Inferred:
    """λ with nothing on the way to it."""
    return Inferred(lam, jnp.zeros(()), jnp.zeros(0))


def clip(lam: Lam, posterior: Posterior, low: float, high: float) -> Lam:
    """λ with its log scales cut off at [low, high], the rest untouched. Unlike `Posterior.bound` it is the identity
    inside the limits, so it can be applied again and again; nothing is differentiated through it."""
    return jnp.where(log_scales(posterior, lam), jnp.clip(lam, low, high), lam)


def log_scales(posterior: Posterior, lam: Lam) -> Bool[Array, " l"]:
    """Which elements of λ are log scales: those that `bound` moves."""
    limit = jnp.zeros(posterior.num_scales, lam.dtype)
    outside = jnp.full_like(lam, 100.0)
    return posterior.bound(outside, limit, limit) != outside
