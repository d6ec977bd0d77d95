"""The inference gap α log Z - V(s; q) = α KL(q‖posterior) ≥ 0 and its parts (Cremer et al. 2018, arXiv:1801.03558):

    α log Z - max_λ V(s; q_λ)        approximation: what the family cannot express
    max_λ V(s; q_λ) - V(s; q_f(s))   amortisation: what the optimiser does not find

It needs nothing of the environment. Up to two action dimensions all three terms are integrals; with more, V is sampled,
the best λ is that of many runs of gradient ascent, and α log Z is bounded from below by importance sampling.
"""

from __future__ import annotations

import functools as ft
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.objective import soft_value, values_of
from estep.core.optim import adam
from estep.core.slots import Distribution, Lam, Problem
from estep.core.types import Key, Obs, Scalar
from estep.errors import UsageError
from estep.families.particles import Boltzmann, ess
from estep.inference.gradient import GradientAscent
from estep.inference.starts import At, log_scales
from estep.instruments import quadrature
from estep.likelihoods.state_value import StateValue

NODES = {1: 256, 2: 32}
"""Quadrature nodes in each panel, by action dimensions."""
BATCHES, BATCH = 32, 32
"""V is sampled by so many batches of so many draws: its standard error is that of the batches' mean."""
DRAWS = 4096
"""Of the best q, for the bound of α log Z."""
SCATTERED = 3
"""Runs of the reference from random starts, beside those from the amortised λ and from the family's own start."""


class Gap(NamedTuple):
    """The inference gap of one state, in units of reward."""

    value: float
    """V(s; q) of the q that the agent infers."""
    best: float
    """V(s; q) of the best q of the family that was found."""
    evidence: float
    """α log Z(s); with more than two action dimensions a lower bound of it (Burda et al. 2016, arXiv:1509.00519)."""
    divergence: float
    """α KL(q‖posterior) integrated by itself: evidence - value again. NaN without quadrature."""
    sampled: float
    """V(s; q) estimated from draws of q."""
    error: float
    """The standard error of that estimate."""
    ess: float
    """Effective number of the draws of the best q as draws of the posterior, of 4,096."""

    @property
    def total(self) -> float:
        """α KL(q‖posterior)."""
        return self.evidence - self.value

    @property
    def approximation(self) -> float:
        """What the family costs."""
        return self.evidence - self.best

    @property
    def amortisation(self) -> float:
        """What the optimiser costs."""
        return self.best - self.value


def gap(agent: Agent, obs: Float[Array, "b o"], key: Key) -> list[Gap]:
    """The gap in each state, of the posterior that the agent infers when acting.

    Raises:
        UsageError: the posterior is particles and has no λ that could be better.
    """
    check_parametric(agent)
    lam, best, parts = jax.tree.map(np.asarray, _sampled_parts(agent, obs, key))
    parts["divergence"] = np.full(len(lam), np.nan)
    if has_quadrature(agent):
        with jax.enable_x64(True):
            wide = jax.tree.map(jnp.asarray, (agent, obs, lam, best))
            parts |= jax.tree.map(np.asarray, _exact_parts(*quadrature.widened(wide)))
    columns = [parts[name] for name in Gap._fields]
    return [Gap(*(float(number) for number in row)) for row in zip(*columns, strict=True)]


def check_parametric(agent: Agent) -> None:
    """Refuse an agent without a λ that could be better: weighted draws of the prior, or a critic of states."""
    if isinstance(agent.likelihood.model, StateValue):
        what = "This critic values states and has no opinion on actions: the posterior is the prior."
        raise UsageError(what, "Inspect a run whose critic values actions.")
    if isinstance(agent.posterior, Boltzmann):
        what = "The posterior is weighted draws of the prior, in closed form: there is no λ to optimise."
        raise UsageError(what, "Inspect a run whose posterior has parameters, such as sac or iterative-sac.")


def has_quadrature(agent: Agent) -> bool:
    """Whether the gap of this agent is a matter of integrals."""
    if agent.spec.action_dim > quadrature.MOST_DIMENSIONS:
        return False
    try:
        jax.eval_shape(lambda agent: _exact_of(agent, *_some(agent)), agent)
    except UsageError:
        return False
    return True


def reference(agent: Agent, problem: Problem, lam: Lam, key: Key) -> Lam:
    """The best λ found: that of gradient ascents from the given one, from the family's start and from random places
    around it, climbed further with small steps and many draws; or the given one where none is better."""
    k_start, k_run, k_last, k_judge = jax.random.split(key, 4)
    own = agent.posterior.start(problem.prior(problem.obs))
    noise = jax.random.normal(k_start, (SCATTERED, *lam.shape), lam.dtype)
    moved = lam[None] + jnp.where(log_scales(agent.posterior, lam)[None], 0.0, noise)
    starts = jnp.concatenate([lam[None], own[None], moved])

    def best_of(lams: Float[Array, "n l"]) -> Lam:
        values = jax.vmap(lambda lam: soft_value(agent.posterior(lam), problem, k_judge, 256)[0])(lams)
        return lams[jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values))]

    def climb(start: Lam, key: Key) -> Lam:
        return GradientAscent(100, 8, adam(3e-2), At(start))(problem, agent.posterior, key).lam

    ends = jax.vmap(climb)(starts, jax.random.split(k_run, starts.shape[0]))
    last = GradientAscent(100, 64, adam(3e-3), At(best_of(ends)))(problem, agent.posterior, k_last).lam
    return best_of(jnp.stack([lam, last]))


def sampled(q: Distribution, problem: Problem, key: Key) -> tuple[Scalar, Scalar]:
    """V(s; q) from draws, and the standard error of that."""
    keys = jax.random.split(key, BATCHES)
    means = jax.vmap(lambda key: soft_value(q, problem, key, BATCH)[0])(keys)
    return means.mean(), means.std(ddof=1) / math.sqrt(BATCHES)


def bound(q: Distribution, problem: Problem, key: Key) -> tuple[Scalar, Scalar]:
    """α log of the mean of p exp(Q̂/α)/q over draws of q, at most α log Z in expectation; and their effective number."""
    k_draw, k_value = jax.random.split(key)
    prior = problem.prior(problem.obs)
    draws = q.draw(k_draw, DRAWS, prior)
    log_ratio = jax.vmap(lambda u: prior.log_prob(u) - q.log_prob(u))(draws.action)
    log_weight = log_ratio + values_of(problem, draws.action, k_value) / problem.alpha
    mean = jax.nn.logsumexp(log_weight + jnp.log(draws.weight))
    return problem.alpha * mean, ess(log_weight)


@jax.jit
def _sampled_parts(agent: Agent, obs: Float[Array, "b o"], key: Key) -> tuple[Array, Array, dict[str, Array]]:
    """λ and the best λ of each state, and everything that draws tell."""

    def one(obs: Obs, key: Key) -> tuple[Lam, Lam, dict[str, Scalar]]:
        k_infer, k_best, k_value, k_bound = jax.random.split(key, 4)
        _, problem, inferred = agent.infer(agent.acting(agent.inference.model), agent.likelihood.model, obs, k_infer)
        best = reference(agent, problem, inferred.lam, k_best)
        value, error = sampled(agent.posterior(inferred.lam), problem, k_value)
        top, _ = sampled(agent.posterior(best), problem, k_value)  # the same noise: their difference is what counts
        evidence, size = bound(agent.posterior(best), problem, k_bound)
        parts = {"value": value, "best": top, "evidence": evidence, "sampled": value, "error": error, "ess": size}
        return inferred.lam, best, parts

    found: tuple[Array, Array, dict[str, Array]] = jax.vmap(one)(obs, jax.random.split(key, obs.shape[0]))
    return found


@jax.jit
def _exact_parts(agent: Agent, obs: Array, lam: Array, best: Array) -> dict[str, Array]:
    """The same by quadrature, one state at a time: the nodes of all would not fit in memory."""
    parts: dict[str, Array] = jax.lax.map(lambda each: _exact_of(agent, *each), (obs, lam, best))
    return parts


def _exact_of(agent: Agent, obs: Obs, lam: Lam, best: Lam) -> dict[str, Scalar]:
    problem, top = agent.problem(agent.likelihood.model, obs), agent.posterior(best)
    of = ft.partial(quadrature.exact, problem, centre=top, nodes=NODES[agent.spec.action_dim])
    found, optimum = of(agent.posterior(lam)), of(top)
    return {
        "value": found.value,
        "best": optimum.value,
        "evidence": found.evidence,
        "divergence": found.divergence,
    }


def _some(agent: Agent) -> tuple[Obs, Lam, Lam]:
    lam = jnp.zeros(sum(agent.posterior.block_sizes))
    return jnp.zeros(agent.spec.obs_dim), lam, lam
