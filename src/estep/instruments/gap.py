"""The inference gap α log Z - V(s; q) = α KL(q‖posterior) ≥ 0 and its parts (Cremer et al. 2018, arXiv:1801.03558):

    α log Z - max_λ V(s; q_λ)        approximation gap, due to the posterior family
    max_λ V(s; q_λ) - V(s; q_f(s))   amortisation gap, due to the inference optimiser

No environment is needed. With one or two action dimensions, α log Z and V are computed by quadrature. With more, V is
estimated from samples, and importance sampling gives a lower bound of α log Z. The best λ is the best result of many
runs of gradient ascent.
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
from estep.core.keys import make_key
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
"""V is estimated from BATCHES batches of BATCH samples. The means of the batches give its standard error."""
DRAWS = 4096
"""Number of samples of the best q for the lower bound of α log Z."""
SCATTERED = 3
"""Number of gradient ascents from random starts. Two more start at the agent's λ and at the family's start."""


class Gap(NamedTuple):
    """The inference gap of one state, in units of reward."""

    value: float
    """V(s; q) of the q that the agent infers."""
    best: float
    """V(s; q) of the best q of the family, as far as gradient ascent finds it."""
    evidence: float
    """α log Z(s). With more than two action dimensions it is a lower bound (Burda et al. 2016, arXiv:1509.00519)."""
    divergence: float
    """α KL(q‖posterior) as an integral, a check of evidence - value. NaN without quadrature."""
    sampled: float
    """V(s; q) estimated from samples of q."""
    error: float
    """Standard error of `sampled`."""
    ess: float
    """Effective sample size of 4,096 samples of the best q with respect to the posterior."""

    @property
    def total(self) -> float:
        """The inference gap, α KL(q‖posterior)."""
        return self.evidence - self.value

    @property
    def approximation(self) -> float:
        """The approximation gap."""
        return self.evidence - self.best

    @property
    def amortisation(self) -> float:
        """The amortisation gap."""
        return self.best - self.value


def gap(agent: Agent, obs: Float[Array, "b o"], key: Key) -> list[Gap]:
    """The inference gap in each state, for the posterior that the agent infers when it acts.

    Args:
        agent: the agent.
        obs: states [b, o], as the networks get them.
        key: key of the random numbers.

    Raises:
        UsageError: the posterior has no parameters λ.
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
    """Refuse an agent whose posterior has no parameters λ to optimise.

    Raises:
        UsageError: the posterior is weighted samples of the prior, or λ is not free; or the critic values states.
    """
    if not agent.posterior.free:
        what = "A part of λ of this run is what a network gives, so λ alone has no optimum."
        raise UsageError(what, "Inspect a run whose posterior has free parameters, such as a run of default-policy.")
    if isinstance(agent.likelihood.model, StateValue):
        what = "The critic of this run values states, not actions, so the posterior is the prior."
        raise UsageError(what, "Inspect a run whose critic values actions, such as a run of sac.")
    if isinstance(agent.posterior, Boltzmann):
        what = "The posterior of this run is weighted samples of the prior, so there is no λ to optimise."
        raise UsageError(what, "Inspect a run whose posterior has parameters, such as a run of sac or iterative-sac.")


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
    """The best λ of one state that gradient ascent finds.

    It starts at the given λ, at the family's start and at random λ. The best result is improved with smaller steps and
    more samples. If nothing is better, the result is the given λ.

    Args:
        agent: the agent.
        problem: the inference problem of the state.
        lam: the given λ [l].
        key: key of the random numbers.
    """
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
    """V(s; q) estimated from samples of q, and its standard error.

    Args:
        q: the distribution.
        problem: the inference problem of the state.
        key: key of the random numbers.
    """
    keys = jax.random.split(key, BATCHES)
    means = jax.vmap(lambda key: soft_value(q, problem, key, BATCH)[0])(keys)
    return means.mean(), means.std(ddof=1) / math.sqrt(BATCHES)


def bound(q: Distribution, problem: Problem, key: Key) -> tuple[Scalar, Scalar]:
    """An estimate of a lower bound of α log Z: α log of the mean of p exp(Q̂/α)/q over samples of q.

    Args:
        q: the distribution of the samples.
        problem: the inference problem of the state.
        key: key of the random numbers.

    Returns:
        The bound, and the effective sample size.
    """
    k_draw, k_value = jax.random.split(key)
    prior = problem.prior(problem.obs)
    draws = q.draw(k_draw, DRAWS, prior)
    log_ratio = jax.vmap(lambda u: prior.log_prob(u) - q.log_prob(u))(draws.action)
    log_weight = log_ratio + values_of(problem, draws.action, k_value) / problem.alpha
    mean = jax.nn.logsumexp(log_weight + jnp.log(draws.weight))
    return problem.alpha * mean, ess(log_weight)


@jax.jit
def _sampled_parts(agent: Agent, obs: Float[Array, "b o"], key: Key) -> tuple[Array, Array, dict[str, Array]]:
    """λ and the best λ of each state, and the fields of Gap as far as samples give them."""

    def in_state(obs: Obs, key: Key) -> tuple[Lam, Lam, dict[str, Scalar]]:
        k_infer, k_best, k_value, k_bound = jax.random.split(key, 4)
        _, problem, inferred = agent.infer(
            agent.acting(agent.inference.model), agent.acting_critic(agent.likelihood), obs, k_infer
        )
        best = reference(agent, problem, inferred.lam, k_best)
        value, error = sampled(agent.posterior(inferred.lam), problem, k_value)
        top, _ = sampled(agent.posterior(best), problem, k_value)  # the same noise, because the difference matters
        evidence, size = bound(agent.posterior(best), problem, k_bound)
        parts = {"value": value, "best": top, "evidence": evidence, "sampled": value, "error": error, "ess": size}
        return inferred.lam, best, parts

    columns: tuple[Array, Array, dict[str, Array]] = jax.vmap(in_state)(obs, jax.random.split(key, obs.shape[0]))
    return columns


@jax.jit
def _exact_parts(agent: Agent, obs: Array, lam: Array, best: Array) -> dict[str, Array]:
    """The fields of Gap by quadrature, state by state, because the nodes of all states would not fit in memory."""
    parts: dict[str, Array] = jax.lax.map(lambda each: _exact_of(agent, *each), (obs, lam, best))
    return parts


def _exact_of(agent: Agent, obs: Obs, lam: Lam, best: Lam) -> dict[str, Scalar]:
    problem, top = agent.acting_problem(obs, make_key(0)), agent.posterior(best)  # a start of acting is not random
    of = ft.partial(quadrature.exact, problem, centre=top, nodes=NODES[agent.spec.action_dim])
    inferred, optimum = of(agent.posterior(lam)), of(top)
    return {
        "value": inferred.value,
        "best": optimum.value,
        "evidence": inferred.evidence,
        "divergence": inferred.divergence,
    }


def _some(agent: Agent) -> tuple[Obs, Lam, Lam]:
    lam = jnp.zeros(sum(agent.posterior.block_sizes))
    return jnp.zeros(agent.spec.obs_dim), lam, lam
