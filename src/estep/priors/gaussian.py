"""A Gaussian prior that does not look at the state."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.slots import Distribution, Prior
from estep.core.types import Obs
from estep.families.gaussian import Normal


class FixedGaussian(Prior):
    """p(u|s) = N(μ, diag σ²) in every state, over the point u: behind a tanh squash, a tanh-Gaussian over a."""

    density: Normal

    def __init__(self, mu: Float[Array, " a"], sigma: Float[Array, " a"]) -> None:
        self.density = Normal(mu, jnp.log(sigma))

    def __call__(self, obs: Obs) -> Distribution:
        return self.density
