"""Weighted draws: q(a|s) ∝ p(a|s) exp(Q̂(s,a)/α) as particles of the prior, and their weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.slots import Distribution, Draws, Lam, Posterior
from estep.core.types import Action, Key, Scalar
from estep.errors import UsageError

Weigh: TypeAlias = Callable[[Float[Array, " n"], Scalar], Float[Array, " n"]]
"""(values at n draws of the prior, η) to log weights whose exponentials sum to one."""


def exponential(values: Float[Array, " n"], eta: Scalar) -> Float[Array, " n"]:
    """w_i ∝ exp(Q_i/η) (Abdolmaleki et al. 2018a, arXiv:1806.06920). The greatest value is taken off before the
    division: at Q ~ 10⁴ and η ~ 10⁻⁴ the quotients alone have no digits left. A value of -∞ has no weight."""
    return jax.nn.log_softmax((values - values.max()) / eta)


@dataclass(frozen=True)
class Rank:
    """w_i ∝ max(0, log((n + shift)/rank_i)), rank 1 the greatest value, ties in order (Abdolmaleki et al. 2018b,
    arXiv:1812.02256, after CMA-ES): any increasing change of the values leaves the weights as they are."""

    shift: float = 1.0

    def __call__(self, values: Float[Array, " n"], eta: Scalar) -> Float[Array, " n"]:
        n = values.shape[0]
        score = jnp.maximum(jnp.log((n + self.shift) / jnp.arange(1.0, n + 1.0)), 0.0)
        rank = jnp.argsort(jnp.argsort(values, descending=True, stable=True))
        return jnp.log(score / score.sum())[rank]


def kl_to_equal(log_weight: Float[Array, " n"]) -> Scalar:
    """KL of the weights to equal ones, Σ w log(n w), in nats; 0 log 0 = 0."""
    return jnp.exp(log_weight) @ log_ratio(log_weight)


def log_ratio(log_weight: Float[Array, " n"]) -> Float[Array, " n"]:
    """log q/p at draws of p: log(n w_i), and 0 where there is no weight."""
    return jnp.where(log_weight == -jnp.inf, 0.0, log_weight + math.log(log_weight.shape[0]))


class Particles(Distribution):
    """n weighted points, each a draw of the prior: so its log-ratio to that prior is log(n w_i)."""

    action: Float[Array, "n a"]
    log_weight: Float[Array, " n"]

    def sample(self, key: Key) -> Action:
        return self.action[jax.random.categorical(key, self.log_weight)]

    def log_prob(self, action: Action) -> Scalar:
        raise UsageError("Weighted particles have no density.", "Fit a density to them: priors.GaussianNetwork.")

    def mode(self) -> Action:
        return self.action[jnp.argmax(self.log_weight)]

    def draw(self, key: Key, n: int, prior: Distribution) -> Draws:
        """All particles, whatever n: their expectations need no chance."""
        return Draws(self.action, jnp.exp(self.log_weight), log_ratio(self.log_weight))


class Boltzmann(Posterior):
    """n particles and their weights: λ = (a_1 .. a_n, log w_1 .. log w_n), the weights up to a factor."""

    action: int = eqx.field(static=True)
    samples: int = eqx.field(static=True)

    @property
    def block_sizes(self) -> tuple[int, ...]:
        return self.samples * self.action, self.samples

    @property
    def num_scales(self) -> int:
        return 0

    def start(self, prior: Distribution) -> Lam:
        """Every particle at the prior's mode."""
        return jnp.concatenate([jnp.tile(prior.mode(), self.samples), jnp.zeros(self.samples)])

    def bound(self, lam: Lam, low: Float[Array, " k"], high: Float[Array, " k"]) -> Lam:
        return lam

    def __call__(self, lam: Lam) -> Distribution:
        action, log_weight = jnp.split(lam, [self.samples * self.action])
        return Particles(action.reshape(self.samples, self.action), jax.nn.log_softmax(log_weight))


def ess(log_weights: Float[Array, " n"]) -> Scalar:
    """Effective sample size 1/Σ w² of weights w ∝ exp(log_weights) that sum to one (Kong 1992): n if all are equal,
    1 if one has everything."""
    weights = jax.nn.softmax(log_weights)
    return jnp.clip(1.0 / jnp.square(weights).sum(), 1.0, log_weights.shape[0])
