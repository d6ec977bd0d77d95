"""α log Z, V and the inference gap of a Gaussian q by quadrature over u, for one or two action dimensions.

Nodes are Gauss-Legendre's on panels, so that kinks of a ReLU critic cost their square in the spacing and smooth critics
nothing; the panels are narrow where q is. Run it on an agent in float64 (`widened`) for its full accuracy.
"""

from __future__ import annotations

import functools as ft
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

MOST_DIMENSIONS = 2
REACH = 9.0
"""Standard deviations of q beyond which its density is taken for zero: e^-40."""
T = TypeVar("T")


class Exact(NamedTuple):
    """One state by quadrature, in units of reward."""

    value: Scalar
    """V(s; q) = E_q[Q̂ - α log q/p], over nodes around q."""
    evidence: Scalar
    """α log Z(s), over nodes everywhere: the greatest V that any q can have."""
    divergence: Scalar
    """α KL(q‖posterior), integrated over the nodes everywhere: evidence - value, if all three are accurate."""


class Nodes(NamedTuple):
    """Points u and the logarithm of their weights: ∫ f(u) du ≈ Σ_i w_i f(u_i)."""

    u: Float[Array, "n a"]
    log_weight: Float[Array, " n"]


def exact(problem: Problem, q: Distribution, centre: Distribution, nodes: int) -> Exact:
    """The quadrature of one state.

    Args:
        centre: where the nodes everywhere are densest: a q that is near the posterior.
        nodes: in each panel and each dimension; five panels cover a dimension.

    Raises:
        UsageError: q or the prior is of a kind that has no window here, or there are too many dimensions.
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
    """The product over a dimensions of Gauss-Legendre's rule on each of p panels."""
    x, w = (jnp.asarray(each, low.dtype) for each in np.polynomial.legendre.leggauss(nodes))
    half = 0.5 * (high - low)
    points = (0.5 * (high + low))[:, None] + half[:, None] * x[None, :, None]
    weights = jnp.log(half[:, None] * w[None, :, None])
    points, weights = (each.reshape(-1, low.shape[1]) for each in (points, weights))
    index = np.stack([i.ravel() for i in np.indices((points.shape[0],) * low.shape[1])], -1)
    dimension = np.arange(low.shape[1])
    return Nodes(points[index, dimension], weights[index, dimension].sum(-1))


def widened(tree: T) -> T:
    """The tree with its numbers in float64; only within `jax.enable_x64(True)`."""
    wide: T = jax.tree.map(lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)
    return wide


def _densities(problem: Problem, q: Distribution, prior: Distribution, nodes: Nodes) -> tuple[Array, Array, Array]:
    keys = jax.random.split(make_key(0), nodes.u.shape[0])
    value = jax.vmap(ft.partial(problem.likelihood, problem))(nodes.u, keys)
    return jax.vmap(q.log_prob)(nodes.u), jax.vmap(prior.log_prob)(nodes.u), value


def _columns(breaks: Float[Array, "k a"]) -> tuple[Float[Array, "p a"], Float[Array, "p a"]]:
    return breaks[:-1], breaks[1:]


def _window(q: Any) -> Float[Array, "2 a"]:
    """Where all of q's mass is."""
    if not isinstance(q, Normal):
        what = f"Quadrature knows where a diagonal Gaussian has its mass, not where a {type(q).__name__} has."
        raise UsageError(what, "Measure its gap against a reference instead.")
    if q.mu.shape[0] > MOST_DIMENSIONS:
        raise UsageError(
            f"Quadrature over {q.mu.shape[0]} dimensions has too many nodes.", "Measure against a reference."
        )
    reach = REACH * jnp.exp(q.log_sigma)
    return jnp.stack([q.mu - reach, q.mu + reach])


def _support(prior: Any) -> Float[Array, "4 a"]:
    """Where all of the prior's mass is, and where nearly all of it is, for each dimension."""
    if isinstance(prior, Normal | FullNormal):
        shear = prior.lower if isinstance(prior, FullNormal) else jnp.zeros((prior.mu.shape[0],) * 2, prior.mu.dtype)
        sigma = jnp.exp(prior.log_sigma) * jnp.sqrt(1.0 + jnp.square(shear).sum(1))
        return prior.mu[None] + jnp.asarray([-10.0, -4.0, 4.0, 10.0], prior.mu.dtype)[:, None] * sigma[None]
    if isinstance(prior, UniformSquashed) or (isinstance(prior, Improper) and isinstance(prior.squash, Tanh)):
        # a = tanh u: beyond 12 lies less than 1e-10 of the box, and beyond 4 nearly nothing changes
        return jnp.tile(jnp.asarray([-12.0, -4.0, 4.0, 12.0])[:, None], (1, prior.action))
    raise UsageError("A flat prior on an unbounded action has no evidence.", "Measure the gap against a reference.")
