"""Inference in closed form: weigh every choice, or what the prior draws."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from estep.core.objective import values_of
from estep.core.slots import Inference, Inferred, Posterior, Problem
from estep.core.types import Key, Spec
from estep.families.categorical import check_draws
from estep.families.particles import Weigh, ess, exponential


class ClosedForm(Inference):
    """n draws of the prior and their weights, as the λ of a `Boltzmann` posterior with as many particles.

    With exponential weights they are p(a|s) exp(Q̂(s,a)/α) up to sampling, the optimum of V over all q, and the
    gradient of the dual of KL(q‖p) ≤ ε to α is ε - KL: `KLConstraint` is the rest of MPO's E-step.
    """

    samples: int = eqx.field(static=True)
    weigh: Weigh = eqx.field(static=True, default=exponential)

    def evaluations(self, choices: int | None = None) -> tuple[int, int]:
        return self.samples, 0

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        k_draw, k_value = jax.random.split(key)
        prior = problem.prior(problem.obs)
        check_draws(prior, "Use Exact, which weighs every choice.")
        action = prior.draw(k_draw, self.samples, prior).action
        values = values_of(problem, action, k_value)
        log_weight = self.weigh(values, problem.alpha)
        lam = jnp.concatenate([action.ravel(), log_weight])
        return Inferred(lam, jnp.zeros(()), jnp.zeros(0), {"ess": ess(log_weight)})


class Exact(Inference):
    """λ = log p(a|s) + Q̂(s,a)/α over all choices of a discrete action, up to a constant: the optimum of V itself, as
    the λ of a `Softmax` posterior. Its KL(q‖p) is exact, and so is the gradient ε - KL of the dual."""

    def evaluations(self, choices: int | None = None) -> tuple[int, int]:
        return choices or 0, 0

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        action = jnp.eye(sum(posterior.block_sizes))
        values = values_of(problem, action, key)
        log_p = jax.vmap(problem.prior(problem.obs).log_prob)(action)
        return Inferred(log_p + exponential(values, problem.alpha), jnp.zeros(()), jnp.zeros(0))


def closed_form(spec: Spec, samples: int, weigh: Weigh = exponential) -> Inference:
    """Over all choices where actions are discrete, where weights are exponential; else over draws of the prior."""
    return Exact() if spec.discrete else ClosedForm(samples, weigh)
