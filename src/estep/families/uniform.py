"""Constant densities over the action, written over the point u: log p(u) = log p(a) + log |da/du|."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp

from estep.core.slots import Distribution, Draws
from estep.core.types import Action, Key, Scalar, Squash, Tanh
from estep.errors import UsageError


class Improper(Distribution):
    """p(a) = 1 everywhere, which is improper: -KL(q‖p) is the entropy of q over a. It cannot be sampled.

    Raises:
        UsageError: it is asked for samples.
    """

    squash: Squash
    action: int = eqx.field(static=True)

    def sample(self, key: Key) -> Action:
        raise UsageError("A flat prior has no samples.", "Use priors.Uniform where the prior is to be sampled.")

    def log_prob(self, action: Action) -> Scalar:
        return self.squash.log_det(action)

    def mode(self) -> Action:
        return jnp.zeros(self.action)

    def draw(self, key: Key, n: int, prior: Distribution) -> Draws:
        raise UsageError("A flat prior has no draws.", "Use priors.Uniform where the prior is to be sampled.")


class UniformAction(Distribution):
    """The uniform density 2^-d on [-1, 1]^d, where densities are over the action itself and u = a."""

    action: int = eqx.field(static=True)

    def sample(self, key: Key) -> Action:
        return jax.random.uniform(key, (self.action,), minval=-1.0, maxval=1.0)

    def log_prob(self, action: Action) -> Scalar:
        """-d log 2, which holds inside the box."""
        return jnp.asarray(-self.action * math.log(2.0))

    def mode(self) -> Action:
        return jnp.zeros(self.action)


class UniformSquashed(Distribution):
    """The uniform density 2^-d on the action box [-1, 1]^d, over u = artanh a.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.uniform import UniformSquashed
        >>> round(float(UniformSquashed(action=2).log_prob(jnp.zeros(2))), 3)  # -2 log 2: tanh has the slope 1 at 0
        -1.386
    """

    action: int = eqx.field(static=True)

    def sample(self, key: Key) -> Action:
        return 0.5 * jax.random.logistic(key, (self.action,))

    def log_prob(self, action: Action) -> Scalar:
        return Tanh().log_det(action) - self.action * math.log(2.0)

    def mode(self) -> Action:
        return jnp.zeros(self.action)
