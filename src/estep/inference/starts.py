"""Starts of an optimiser: the λ of another optimiser, which may be fixed or random; and the best of many starts."""

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
from estep.core.types import Action, Key, Scalar
from estep.errors import UsageError, check


@runtime_checkable
class Starting(Protocol):
    """An optimiser with a start: another optimiser, whose λ is its λ_0."""

    start: Inference


class AtPrior(Inference):
    """λ_0 of the family: the prior where the family has it, else a fixed λ."""

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        return one_shot(posterior.start(problem.prior(problem.obs)))


class At(Inference):
    """A given λ, in every state."""

    lam: Lam

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        return one_shot(self.lam)


class Scattered(Inference):
    """λ + scale·ε, where λ is the result of another optimiser and ε is standard normal.

    Log scales get no noise: where a scale is too large, gradients are so large that an adaptive step size stays small
    for long afterwards.
    """

    centre: Inference
    scale: float = eqx.field(static=True)

    def start_action(self, problem: Problem, posterior: Posterior, key: Key) -> Action:
        return self.centre.start_action(problem, posterior, key)

    def evaluations(self, choices: int | None = None) -> tuple[int, int]:
        return self.centre.evaluations(choices)

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        k_centre, k_noise = jax.random.split(key)
        inferred = self.centre(problem, posterior, k_centre)
        noise = jax.random.normal(k_noise, inferred.lam.shape, inferred.lam.dtype)
        moved = jnp.where(log_scales(posterior, inferred.lam), 0.0, self.scale * noise)
        return inferred._replace(lam=inferred.lam + moved)


class Restarts(Inference):
    """The best by V of n runs of an optimiser: one from its own start, the others from random starts around it.

    Raises:
        UsageError: n is below 2; the optimiser has no start.
    """

    inference: Inference
    n: int = eqx.field(static=True)
    """At least 2."""
    scale: float = eqx.field(static=True, default=1.0)
    """Standard deviation of the random starts, in units of λ (of u, for a mean)."""
    samples: int = eqx.field(static=True, default=100)
    """Samples, the same for all runs, that V at their ends is estimated from."""

    def __check_init__(self) -> None:
        check("restarts", self.n >= 2, self.n, "at least 2, one of which is the optimiser's own start")

    def start_action(self, problem: Problem, posterior: Posterior, key: Key) -> Action:
        return self.inference.start_action(problem, posterior, key)

    def evaluations(self, choices: int | None = None) -> tuple[int, int]:
        once = self.inference.evaluations(choices)
        return self.n * (once[0] + self.samples), self.n * once[1]

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        runs, values = self.runs(problem, posterior, key)
        best = jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values))
        return Inferred(runs.lam[best], runs.earlier.mean(), runs.values[best])

    def runs(self, problem: Problem, posterior: Posterior, key: Key) -> tuple[Inferred, Float[Array, " n"]]:
        """All runs, stacked, and V at the end of each.

        Args:
            problem: the state, p, Q̂ and α.
            posterior: the family of q.
            key: a random key.
        """
        k_own, k_run, k_judge = jax.random.split(key, 3)
        run: Inference = starting(self.inference, Scattered(start_of(self.inference), self.scale))
        own = self.inference(problem, posterior, k_own)
        others = jax.vmap(lambda key: run(problem, posterior, key))(jax.random.split(k_run, self.n - 1))
        inferred = jax.tree.map(lambda one, many: jnp.concatenate([one[None], many]), own, others)

        def judge(lam: Lam) -> Scalar:
            return soft_value(posterior(lam), problem, k_judge, self.samples)[0]

        return inferred, jax.vmap(judge)(sg(inferred.lam))


def distinct_modes(lams: Float[Array, "n l"], values: Float[Array, " n"], tol: float) -> Bool[Array, " n"]:
    """Which of n solutions are distinct modes.

    From the best to the worst, a solution is a mode if it differs by more than `tol`, in some element of λ, from every
    mode before it.

    Args:
        lams: the λ of each solution.
        values: V of each.
        tol: the tolerance, in units of λ.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.inference.starts import distinct_modes
        >>> print(distinct_modes(jnp.asarray([[0.0], [0.1], [3.0]]), jnp.asarray([1.0, 2.0, 0.5]), tol=0.5))
        [False  True  True]
    """
    far = jnp.abs(lams[:, None] - lams[None]).max(-1) > tol

    def consider(kept: Bool[Array, " n"], i: Array) -> tuple[Bool[Array, " n"], None]:
        return kept.at[i].set((far[i] | ~kept).all()), None

    nothing = jnp.zeros(values.shape[0], bool)
    kept: Array = jax.lax.scan(consider, nothing, jnp.argsort(-values))[0]
    return kept


def starting(inference: Any, start: Inference) -> Any:
    """The same optimiser with another start.

    Raises:
        UsageError: the optimiser has no start.
    """
    start_of(inference)
    return replace(inference, start=start)


def start_of(inference: Any) -> Inference:
    """The start of an optimiser, which is an optimiser itself.

    Raises:
        UsageError: the optimiser has no start.
    """
    if not isinstance(inference, Starting):
        raise UsageError(
            f"{type(inference).__name__} does not start anywhere.", "Use an optimiser that takes a `start`."
        )
    return inference.start


def begin(start: Inference, problem: Problem, posterior: Posterior, key: Key, samples: int) -> Inferred:
    """λ_0 without a gradient, and what trains the start if it has parameters.

    A start is trained as it is alone: to maximise V at its own λ. So ⟨sg ∂V/∂λ_0, λ_0⟩ is added to `earlier`; its
    gradient is that of V at λ_0, and no gradient comes from later iterates. Q̂ is differentiated only if the start has
    parameters.

    Args:
        start: the optimiser that gives λ_0.
        problem: the state, p, Q̂ and α.
        posterior: the family of q.
        key: a random key.
        samples: samples of q in the gradient.
    """
    k_start, k_value = jax.random.split(key)
    first = start(problem, posterior, k_start)
    lam = sg(first.lam)
    if not jax.tree.leaves(start):
        return first._replace(lam=lam)
    grad = sg(jax.grad(lambda lam: soft_value(posterior(lam), problem, k_value, samples)[0])(lam))
    return Inferred(lam, first.earlier + grad @ first.lam, first.values)


def added(start: tuple[int, int], evaluations: int, gradients: bool = False) -> tuple[int, int]:
    """The cost of an optimiser with its start, as `Inference.evaluations` gives it.

    Args:
        start: the cost of the start.
        evaluations: of Q̂, by the optimiser itself.
        gradients: whether it uses gradients of Q̂.

    Example:
        >>> from estep.inference.starts import added
        >>> added((10, 0), 5, gradients=True)
        (15, 5)
    """
    return start[0] + evaluations, start[1] + (evaluations if gradients else 0)


def one_shot(lam: Lam) -> Inferred:
    """λ as the result of an optimiser without iterates."""
    return Inferred(lam, jnp.zeros(()), jnp.zeros(0))


def clip(lam: Lam, posterior: Posterior, low: float, high: float) -> Lam:
    """λ with its log scales clipped to [low, high], and the rest as it was.

    Unlike `Posterior.bound` it changes nothing inside the limits, so it can be applied at every step. It has no
    gradient outside, and none is taken through it.

    Args:
        lam: λ.
        posterior: its family.
        low: the lower limit of all log scales.
        high: their upper limit.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.gaussian import Gaussian
        >>> from estep.inference.starts import clip
        >>> print(clip(jnp.asarray([9.0, 9.0]), Gaussian(action=1), low=-10.0, high=2.0))  # (μ, log σ)
        [9. 2.]
    """
    return jnp.where(log_scales(posterior, lam), jnp.clip(lam, low, high), lam)


def log_scales(posterior: Posterior, lam: Lam) -> Bool[Array, " l"]:
    """Which elements of λ are log scales: those that `bound` moves.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.gaussian import Gaussian
        >>> from estep.inference.starts import log_scales
        >>> print(log_scales(Gaussian(action=2), jnp.zeros(4)))
        [False False  True  True]
    """
    limit = jnp.zeros(posterior.num_scales, lam.dtype)
    outside = jnp.full_like(lam, 100.0)
    return posterior.bound(outside, limit, limit) != outside
