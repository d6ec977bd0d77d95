"""The cross-entropy method: sample, choose the best, fit. It uses values of Q̂ alone, without gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.objective import comparable_values
from estep.core.slots import Inference, Inferred, Lam, Posterior, Problem
from estep.core.types import Action, Key, Scalar
from estep.errors import UsageError
from estep.families.categorical import check_draws
from estep.inference.starts import AtPrior, added, begin, clip

Ranking = Callable[[Float[Array, " n"], Float[Array, " n"], Scalar], Float[Array, " n"]]
"""The score of n samples; those with the greatest are the elite.

Args:
    value: Q̂ of each.
    log_ratio: log q/p of each, in nats.
    alpha: α.
"""


def by_soft_value(value: Float[Array, " n"], log_ratio: Float[Array, " n"], alpha: Scalar) -> Float[Array, " n"]:
    """A `Ranking`: Q̂ - α log q/p. It is the same for all samples where q is the posterior, so λ stays there."""
    return value - alpha * log_ratio


def by_value(value: Float[Array, " n"], log_ratio: Float[Array, " n"], alpha: Scalar) -> Float[Array, " n"]:
    """A `Ranking`: Q̂ alone, as in planners. It uses neither α nor the prior, so q narrows to one action."""
    return value


class CEM(Inference):
    """λ ← κ λ + (1 - κ) fit(elite), where the elite are the best of n samples of q_λ.

    If the soft value is the ranking, κ must be near 1. With a small κ the result depends on the fit to a small elite,
    whose spread is below that of q, at the optimum too. A full covariance needs an elite several times as large as the
    action.

    Raises:
        UsageError: the elite has fewer than 2 samples or more than there are; the family has no `fit`.

    Source:
        Rubinstein 1999.
    """

    iterations: int = eqx.field(static=True, default=200)
    population: int = eqx.field(static=True, default=100)
    elite: float = eqx.field(static=True, default=0.1)
    """The elite as a fraction of the samples."""
    smoothing: float = eqx.field(static=True, default=0.9)
    """κ."""
    min_std: float = eqx.field(static=True, default=1e-3)
    ranking: Ranking = eqx.field(static=True, default=by_soft_value)
    start: Inference = AtPrior()
    high: float = eqx.field(static=True, default=2.0)
    """Upper limit of the log scales."""

    def __check_init__(self) -> None:
        if not 2 <= self.kept <= self.population:
            raise UsageError(
                f"An elite of {self.elite} of {self.population} draws keeps {self.kept} of them.",
                "Keep at least 2 and at most all of them.",
            )

    @property
    def kept(self) -> int:
        """The number of samples in the elite."""
        return round(self.elite * self.population)

    def start_action(self, problem: Problem, posterior: Posterior, key: Key) -> Action:
        return self.start.start_action(problem, posterior, key)

    def evaluations(self, choices: int | None = None) -> tuple[int, int]:
        return added(self.start.evaluations(choices), self.iterations * self.population)

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        family, prior = fittable(posterior), problem.prior(problem.obs)
        uniform = jnp.full(self.kept, 1.0 / self.kept)

        def iteration(lam: Lam, key: Key) -> tuple[Lam, Scalar]:
            k_draw, k_value = jax.random.split(key)
            q = posterior(lam)
            check_draws(q, "Use importance sampling, which is exact over choices.")
            action = q.draw(k_draw, self.population, prior).action
            value = comparable_values(problem, action, k_value)
            # not `Draws.log_ratio`: that may be everywhere the KL, which ranks nothing
            log_ratio = jax.vmap(lambda u: q.log_prob(u) - prior.log_prob(u))(action)
            score = self.ranking(value, log_ratio, problem.alpha)
            best = jax.lax.top_k(jnp.where(jnp.isnan(score), -jnp.inf, score), self.kept)[1]
            new = self.smoothing * lam + (1.0 - self.smoothing) * family.fit(action[best], uniform)
            soft = by_soft_value(value, log_ratio, problem.alpha).mean()
            return clip(new, posterior, math.log(self.min_std), self.high), soft

        k_start, k_iterations = jax.random.split(key)
        first = begin(self.start, problem, posterior, k_start, self.population)
        lam, values = jax.lax.scan(iteration, first.lam, jax.random.split(k_iterations, self.iterations))
        return Inferred(lam, first.earlier, jnp.concatenate([first.values, values]))


@runtime_checkable
class Fittable(Protocol):
    """A family whose best fit to weighted samples has a closed form."""

    def fit(self, action: Float[Array, "n a"], weight: Float[Array, " n"]) -> Lam:
        """The λ of greatest likelihood under samples whose weights sum to one."""


def fittable(posterior: Any) -> Fittable:
    """The family, checked to be one that can be fitted.

    Raises:
        UsageError: it has no `fit`.
    """
    if not isinstance(posterior, Fittable):
        raise UsageError(
            f"{type(posterior).__name__} has no closed form for its best fit to weighted draws.",
            "Use posteriors.Gaussian or posteriors.FullGaussian, or GradientAscent, which needs no fit.",
        )
    return posterior
