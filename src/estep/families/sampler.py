"""Samples of a sampler without a density, and a proposal with a density that covers what they miss."""

from __future__ import annotations

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.slots import Distribution, Draws, Lam, Posterior
from estep.core.types import Action, Key, Scalar
from estep.errors import UsageError
from estep.families.particles import Points


class Sampled(Distribution):
    """n samples of equal weight, each with its value Q̂. There is no density."""

    knows_ratio: ClassVar[bool] = False
    action: Float[Array, "n a"]
    value: Float[Array, " n"]

    def sample(self, key: Key) -> Action:
        """One of them, each as likely as the others."""
        return self.action[jax.random.randint(key, (), 0, self.action.shape[0])]

    def log_prob(self, action: Action) -> Scalar:
        raise UsageError("A sampler has no density.", "Use a posterior that has one, such as posteriors.Mixture.")

    def mode(self) -> Action:
        """The sample of greatest Q̂: with a uniform prior, the one where the density of the posterior is greatest.

        The middle of the noise of the sampler would be between modes.
        """
        return self.action[jnp.argmax(self.value)]

    def draw(self, key: Key, n: int, prior: Distribution) -> Draws:
        """All samples, for any n. Their log-ratio to the prior is not known and is 0: the soft value has no KL."""
        size = self.action.shape[0]
        return Draws(self.action, jnp.full(size, 1.0 / size), jnp.zeros(size))


class EqualMixture(Distribution):
    """½ q_1 + ½ q_2. As a proposal r it covers both: importance weights p/r are at most 2 if one of them is p.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.gaussian import Normal
        >>> from estep.families.sampler import EqualMixture
        >>> p, q = Normal(jnp.zeros(1), jnp.zeros(1)), Normal(jnp.full(1, 9.0), jnp.zeros(1))
        >>> u = jnp.asarray([0.5])
        >>> round(float(jnp.exp(p.log_prob(u) - EqualMixture(p, q).log_prob(u))), 3)
        2.0
    """

    one: Distribution
    other: Distribution

    def sample(self, key: Key) -> Action:
        k_which, k_one, k_other = jax.random.split(key, 3)
        return jnp.where(jax.random.bernoulli(k_which), self.one.sample(k_one), self.other.sample(k_other))

    def log_prob(self, action: Action) -> Scalar:
        return jnp.logaddexp(self.one.log_prob(action), self.other.log_prob(action)) - math.log(2.0)

    def mode(self) -> Action:
        """The one of the two modes where the density is greater."""
        one, other = self.one.mode(), self.other.mode()
        return jnp.where(self.log_prob(one) > self.log_prob(other), one, other)


class Implicit(Points, Posterior):
    """n samples and their values: λ = (u_1 .. u_n, Q̂_1 .. Q̂_n).

    Without a density there is no KL and no V(s; q). Use it with an E-step that needs neither (`stein_e_step`), a
    constant temperature, a prior that does not learn, and `log_mean_exp_value` for the critic.
    """

    def __call__(self, lam: Lam) -> Distribution:
        return Sampled(*self.split(lam))
