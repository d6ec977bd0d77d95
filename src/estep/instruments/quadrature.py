"""α log Z, V and the inference gap of a Gaussian q by quadrature over u, for one or two action dimensions.

The nodes are Gauss-Legendre nodes on panels, which are narrow where q has its mass. For a smooth critic the error is
negligible; for a ReLU critic it is quadratic in the distance of the nodes. Use an agent in float64 (`widened`) for full
accuracy.
"""

from __future__ import annotations

import functools as ft
import math
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from estep.core.keys import make_key
from estep.core.slots import Distribution, Problem
from estep.core.types import Scalar, Tanh
from estep.errors import UsageError
from estep.families.full_gaussian import FullNormal
from estep.families.gaussian import Normal
from estep.families.uniform import Improper, UniformSquashed
from estep.priors.tempered import TemperedDensity

MOST_DIMENSIONS = 2
REACH = 9.0
"""Beyond this many standard deviations the density of q counts as zero (it is e^-40)."""
T = TypeVar("T")


class Exact(NamedTuple):
    """One state by quadrature, in units of reward."""

    value: Scalar
    """V(s; q) = E_q[Q̂ - α log q/p], over nodes around q."""
    evidence: Scalar
    """α log Z(s), over nodes everywhere. It is the largest V of any q."""
    divergence: Scalar
    """α KL(q‖posterior), over nodes everywhere. It equals evidence - value if all three are accurate."""


class Nodes(NamedTuple):
    """Points u and the logarithm of their weights: ∫ f(u) du ≈ Σ_i w_i f(u_i)."""

    u: Float[Array, "n a"]
    log_weight: Float[Array, " n"]


def exact(problem: Problem, q: Distribution, centre: Distribution, nodes: int) -> Exact:
    """The quadrature of one state.

    Args:
        problem: the inference problem of the state.
        q: the distribution, a diagonal Gaussian.
        centre: a distribution near the posterior; the nodes everywhere are densest where it has its mass.
        nodes: number of nodes in each panel and dimension; five panels cover a dimension.

    Raises:
        UsageError: there is no quadrature for this kind of q or prior, or there are too many dimensions.
    """
    prior = problem.prior(problem.obs)
    near = panels(*_columns(_window(q)), 4 * nodes)
    log_q, log_p, value = _densities(problem, q, prior, near)
    mass = jnp.exp(near.log_weight + log_q)
    inside = mass @ (value - problem.alpha * (log_q - log_p))
    everywhere = panels(*_columns(jnp.sort(jnp.concatenate([_support(prior), _window(centre)]), axis=0)), nodes)
    log_q, log_p, value = _densities(problem, q, prior, everywhere)
    log_joint = log_p + value / problem.alpha
    log_z = jax.nn.logsumexp(everywhere.log_weight + log_joint)
    mass = jnp.exp(everywhere.log_weight + log_q)
    return Exact(inside, problem.alpha * log_z, problem.alpha * (mass @ (log_q - log_joint + log_z)))


def panels(low: Float[Array, "p a"], high: Float[Array, "p a"], nodes: int) -> Nodes:
    """The product rule of Gauss-Legendre rules on panels.

    Args:
        low, high: limits of the panels [p, a].
        nodes: number of nodes in each panel and dimension.
    """
    x, w = (jnp.asarray(each, low.dtype) for each in np.polynomial.legendre.leggauss(nodes))
    half = 0.5 * (high - low)
    points = (0.5 * (high + low))[:, None] + half[:, None] * x[None, :, None]
    weights = jnp.log(half[:, None] * w[None, :, None])
    points, weights = (each.reshape(-1, low.shape[1]) for each in (points, weights))
    index = np.stack([i.ravel() for i in np.indices((points.shape[0],) * low.shape[1])], -1)
    dimension = np.arange(low.shape[1])
    return Nodes(points[index, dimension], weights[index, dimension].sum(-1))


def widened(tree: T) -> T:
    """The tree with its arrays in float64. Call it only within `jax.enable_x64(True)`."""
    wide: T = jax.tree.map(lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)
    return wide


def _densities(problem: Problem, q: Distribution, prior: Distribution, nodes: Nodes) -> tuple[Array, Array, Array]:
    keys = jax.random.split(make_key(0), nodes.u.shape[0])
    value = jax.vmap(ft.partial(problem.likelihood, problem))(nodes.u, keys)
    return jax.vmap(q.log_prob)(nodes.u), jax.vmap(prior.log_prob)(nodes.u), value


def _columns(breaks: Float[Array, "k a"]) -> tuple[Float[Array, "p a"], Float[Array, "p a"]]:
    return breaks[:-1], breaks[1:]


def _window(q: Any) -> Float[Array, "2 a"]:
    """An interval in each dimension that contains the mass of q."""
    if not isinstance(q, Normal):
        what = f"Quadrature works for a diagonal Gaussian, not for {type(q).__name__}."
        raise UsageError(what, "Measure the gap with gap.reference instead.")
    if q.mu.shape[0] > MOST_DIMENSIONS:
        what = f"Quadrature over {q.mu.shape[0]} dimensions has too many nodes."
        raise UsageError(what, f"Use at most {MOST_DIMENSIONS} action dimensions, or gap.reference.")
    reach = REACH * jnp.exp(q.log_sigma)
    return jnp.stack([q.mu - reach, q.mu + reach])


def _support(prior: Any) -> Float[Array, "4 a"]:
    """Two intervals in each dimension: one contains all of the prior's mass, the other nearly all of it."""
    if isinstance(prior, TemperedDensity) and isinstance(prior.base, Normal):  # the power of a Gaussian is a wider one
        prior = Normal(prior.base.mu, prior.base.log_sigma - 0.5 * math.log(prior.share))
    if isinstance(prior, Normal | FullNormal):
        shear = prior.lower if isinstance(prior, FullNormal) else jnp.zeros((prior.mu.shape[0],) * 2, prior.mu.dtype)
        sigma = jnp.exp(prior.log_sigma) * jnp.sqrt(1.0 + jnp.square(shear).sum(1))
        return prior.mu[None] + jnp.asarray([-10.0, -4.0, 4.0, 10.0], prior.mu.dtype)[:, None] * sigma[None]
    if isinstance(prior, UniformSquashed) or (isinstance(prior, Improper) and isinstance(prior.squash, Tanh)):
        # a = tanh u: |u| > 12 is less than 1e-10 of the box, and for |u| > 4 a hardly changes
        return jnp.tile(jnp.asarray([-12.0, -4.0, 4.0, 12.0])[:, None], (1, prior.action))
    what = "With a flat prior on unbounded actions Z is not defined."
    raise UsageError(what, "Use a prior that can be normalised, such as a Gaussian.")
