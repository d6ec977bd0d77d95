"""Weighted samples: q(a|s) ∝ p(a|s) exp(Q̂(s,a)/α) as samples of the prior and their weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from estep.core.slots import Distribution, Draws, Lam, Posterior
from estep.core.types import Action, Key, Scalar
from estep.errors import UsageError

Weigh: TypeAlias = Callable[[Float[Array, " n"], Scalar], Float[Array, " n"]]
"""(values at n samples of the prior, η) to log weights, whose exponentials sum to one."""


def exponential(values: Float[Array, " n"], eta: Scalar) -> Float[Array, " n"]:
    """A `Weigh`: w_i ∝ exp(Q_i/η). A value of -∞ has no weight.

    The greatest value is subtracted before the division: at Q ~ 10⁴ and η ~ 10⁻⁴ the quotients have no digits left.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.particles import exponential
        >>> values = jnp.log(jnp.asarray([1.0, 3.0]))
        >>> print(jnp.exp(exponential(values, jnp.asarray(1.0))).round(2))
        [0.25 0.75]

    Source:
        Abdolmaleki et al. 2018a, arXiv:1806.06920.
    """
    return jax.nn.log_softmax((values - values.max()) / eta)


@dataclass(frozen=True)
class Rank:
    """A `Weigh`: w_i ∝ max(0, log((n + shift)/rank_i)), where the greatest value has rank 1.

    Any increasing function of the values has the same weights. Of equal values the first has the lower rank.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.particles import Rank
        >>> values, eta = jnp.asarray([1.0, 3.0, 2.0]), jnp.asarray(1.0)
        >>> bool(jnp.all(Rank()(values, eta) == Rank()(jnp.exp(values), eta)))
        True

    Source:
        Abdolmaleki et al. 2018b, arXiv:1812.02256, after CMA-ES.
    """

    shift: float = 1.0

    def __call__(self, values: Float[Array, " n"], eta: Scalar) -> Float[Array, " n"]:
        n = values.shape[0]
        score = jnp.maximum(jnp.log((n + self.shift) / jnp.arange(1.0, n + 1.0)), 0.0)
        rank = jnp.argsort(jnp.argsort(values, descending=True, stable=True))
        return jnp.log(score / score.sum())[rank]


def kl_to_equal(log_weight: Float[Array, " n"]) -> Scalar:
    """KL of the weights to equal weights, Σ_i w_i log(n w_i), in nats, with 0 log 0 = 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.particles import kl_to_equal
        >>> float(kl_to_equal(jnp.log(jnp.full(4, 0.25)))), round(float(kl_to_equal(jnp.asarray([0.0, -jnp.inf]))), 3)
        (0.0, 0.693)
    """
    return jnp.exp(log_weight) @ log_ratio(log_weight)


def log_ratio(log_weight: Float[Array, " n"]) -> Float[Array, " n"]:
    """log q/p at samples of p: log(n w_i), and 0 where there is no weight."""
    return jnp.where(log_weight == -jnp.inf, 0.0, log_weight + math.log(log_weight.shape[0]))


class Particles(Distribution):
    """n weighted samples of the prior: the log-ratio to that prior is log(n w_i). There is no density.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.particles import Particles
        >>> q = Particles(jnp.asarray([[-1.0], [1.0]]), jnp.log(jnp.asarray([0.25, 0.75])))
        >>> print(q.mode())
        [1.]
    """

    action: Float[Array, "n a"]
    log_weight: Float[Array, " n"]

    def sample(self, key: Key) -> Action:
        return self.action[jax.random.categorical(key, self.log_weight)]

    def log_prob(self, action: Action) -> Scalar:
        raise UsageError("Weighted particles have no density.", "Fit a density to them: priors.GaussianNetwork.")

    def mode(self) -> Action:
        return self.action[jnp.argmax(self.log_weight)]

    def draw(self, key: Key, n: int, prior: Distribution) -> Draws:
        """All particles, for any n. The log-ratio is to the prior that they are samples of, whatever `prior` is."""
        return Draws(self.action, jnp.exp(self.log_weight), log_ratio(self.log_weight))


class Points(eqx.Module):
    """What families of n points with a number each share: λ = (u_1 .. u_n, x_1 .. x_n), and no scale in it."""

    action: int = eqx.field(static=True)
    samples: int = eqx.field(static=True)

    @property
    def block_sizes(self) -> tuple[int, ...]:
        return self.samples * self.action, self.samples

    def start(self, prior: Distribution) -> Lam:
        """Every point at the prior's mode."""
        return jnp.concatenate([jnp.tile(prior.mode(), self.samples), jnp.zeros(self.samples)])

    def split(self, lam: Lam) -> tuple[Float[Array, "n a"], Float[Array, " n"]]:
        """The points and their numbers."""
        action, numbers = jnp.split(lam, [self.samples * self.action])
        return action.reshape(self.samples, self.action), numbers


class Boltzmann(Points, Posterior):
    """n particles and their weights: λ = (u_1 .. u_n, log w_1 .. log w_n), the weights up to a factor.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.particles import Boltzmann
        >>> q = Boltzmann(action=1, samples=2)(jnp.asarray([-1.0, 1.0, 0.0, 0.0]))
        >>> print(jnp.exp(q.log_weight).round(2))
        [0.5 0.5]
    """

    def __call__(self, lam: Lam) -> Distribution:
        action, log_weight = self.split(lam)
        return Particles(action, jax.nn.log_softmax(log_weight))


def ess(log_weights: Float[Array, " n"]) -> Scalar:
    """Effective sample size 1/Σ w² of weights w ∝ exp(log_weights) that sum to one.

    It is n if all weights are equal, and 1 if one sample has all the weight.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.particles import ess
        >>> float(ess(jnp.zeros(4)))
        4.0

    Source:
        Kong 1992.
    """
    weights = jax.nn.softmax(log_weights)
    return jnp.clip(1.0 / jnp.square(weights).sum(), 1.0, log_weights.shape[0])


def log_mean(log_weight: Float[Array, " n"]) -> Scalar:
    """log of the mean of weights that are given by their logarithms."""
    return jax.nn.logsumexp(log_weight) - math.log(log_weight.shape[0])


def systematic(log_weight: Float[Array, " n"], key: Key) -> Int[Array, " n"]:
    """The numbers of n particles drawn by their weights w, with one random number: i is drawn ⌊n w_i⌋ or ⌈n w_i⌉ times.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import make_key
        >>> from estep.families.particles import systematic
        >>> print(systematic(jnp.log(jnp.asarray([0.5, 0.0, 0.25, 0.25])), make_key(0)))
        [0 0 2 3]

    Source:
        Carpenter, Clifford & Fearnhead 1999.
    """
    n, dtype = log_weight.shape[0], log_weight.dtype
    cumulative = jnp.cumsum(jax.nn.softmax(log_weight))
    places = (jnp.arange(n, dtype=dtype) + jax.random.uniform(key, (), dtype)) / n
    # a place of 1, by rounding, would draw the last particle whatever its weight
    below_one = jnp.minimum(places, 1.0 - float(np.finfo(dtype).eps))
    return jnp.searchsorted(cumulative / cumulative[-1], below_one, side="right")


def of_roots(log_weight: Float[Array, " n"], root: Int[Array, " n"]) -> Float[Array, " n"]:
    """log W of n roots: the summed weights of the particles that descend from each, as a part of all weights.

    Args:
        log_weight: of the particles, up to a constant.
        root: the number of the root from which each particle descends.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.particles import of_roots
        >>> print(jnp.exp(of_roots(jnp.zeros(4), jnp.asarray([0, 0, 0, 2]))))
        [0.75 0.   0.25 0.  ]
    """
    n, normal = log_weight.shape[0], jax.nn.log_softmax(log_weight)
    top = jax.ops.segment_max(normal, root, n)
    top = jnp.where(top > -jnp.inf, top, 0.0)
    return top + jnp.log(jax.ops.segment_sum(jnp.exp(normal - top[root]), root, n))
