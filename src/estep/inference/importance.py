"""Self-normalised importance sampling: weigh draws towards the posterior itself and match its moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from jaxtyping import Array, Float

from estep.core.objective import values_of
from estep.core.slots import Distribution, Inference, Inferred, Lam, Posterior, Problem
from estep.core.types import Key, Scalar
from estep.families.particles import ess
from estep.inference.cem import fittable
from estep.inference.starts import AtPrior, added, begin, clip

Proposal = Callable[[Distribution, Distribution], Distribution]
"""(prior, current q) to the density that is drawn from."""


def from_prior(prior: Distribution, q: Distribution) -> Distribution:
    """Propose from the prior, which must be one that can be sampled."""
    return prior


def from_posterior(prior: Distribution, q: Distribution) -> Distribution:
    """Propose from the posterior found so far."""
    return q


class Weighing(NamedTuple):
    """How each round of importance sampling went."""

    ess: Float[Array, " k"]
    """Effective sample size, between 1 and the number of draws."""
    evidence: Float[Array, " k"]
    """Estimate of α log Z(s) = α log E_p exp(Q̂/α), the largest V that any q can have."""


class Importance(Inference):
    """λ ← fit(a_i, w_i), w_i ∝ p(a_i) exp(Q̂(s, a_i)/α) / r(a_i), a_i ~ r, a number of times.

    The fit matches moments of the posterior, so it minimises KL(posterior‖q) within the family and not the KL(q‖
    posterior) that the other optimisers do; they agree where the family holds the posterior.
    """

    samples: int = eqx.field(static=True, default=1000)
    iterations: int = eqx.field(static=True, default=1)
    proposal: Proposal = eqx.field(static=True, default=from_posterior)
    """r."""
    start: Inference = AtPrior()
    low: float = eqx.field(static=True, default=-10.0)
    high: float = eqx.field(static=True, default=2.0)
    """Limits of the log scales."""

    def evaluations(self, choices: int | None = None) -> tuple[int, int]:
        return added(self.start.evaluations(choices), self.iterations * (choices or self.samples))

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        return self.with_diagnostics(problem, posterior, key)[0]

    def with_diagnostics(self, problem: Problem, posterior: Posterior, key: Key) -> tuple[Inferred, Weighing]:
        """What `__call__` returns, and how each round went."""
        family, prior = fittable(posterior), problem.prior(problem.obs)

        def iteration(lam: Lam, key: Key) -> tuple[Lam, tuple[Scalar, Scalar, Scalar]]:
            k_draw, k_value = jax.random.split(key)
            q = posterior(lam)
            proposal = self.proposal(prior, q)
            draws = proposal.draw(k_draw, self.samples, prior)
            value = values_of(problem, draws.action, k_value)
            log_p, log_q, log_r = (jax.vmap(density.log_prob)(draws.action) for density in (prior, q, proposal))
            base = jnp.log(draws.weight) - log_r
            log_weight = base + log_p + value / problem.alpha
            soft = jax.nn.softmax(base + log_q) @ (value - problem.alpha * (log_q - log_p))
            new = clip(family.fit(draws.action, jax.nn.softmax(log_weight)), posterior, self.low, self.high)
            return new, (soft, ess(log_weight), problem.alpha * jax.nn.logsumexp(log_weight))

        k_start, k_iterations = jax.random.split(key)
        first = begin(self.start, problem, posterior, k_start, self.samples)
        keys = jax.random.split(k_iterations, self.iterations)
        lam, (values, size, evidence) = jax.lax.scan(iteration, first.lam, keys)
        inferred = Inferred(sg(lam), first.earlier, jnp.concatenate([first.values, values]), {"ess": sg(size[-1])})
        return inferred, Weighing(size, evidence)
