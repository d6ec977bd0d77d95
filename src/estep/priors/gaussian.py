"""A Gaussian prior that is the same in every state."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.slots import Distribution, Prior
from estep.core.types import Obs
from estep.families.gaussian import Normal


class FixedGaussian(Prior):
    """p(u|s) = N(μ, diag σ²) in every state, over the point u. With a = tanh u it is a tanh-Gaussian over a.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.priors.gaussian import FixedGaussian
        >>> print(FixedGaussian(mu=jnp.zeros(2), sigma=jnp.ones(2))(jnp.zeros(3)).log_sigma)
        [0. 0.]
    """

    density: Normal

    def __init__(self, mu: Float[Array, " a"], sigma: Float[Array, " a"]) -> None:
        self.density = Normal(mu, jnp.log(sigma))

    def __call__(self, obs: Obs) -> Distribution:
        return self.density
