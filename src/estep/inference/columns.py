"""Direct inference in two columns: what all tasks share, and what one task adds to it."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.slots import Inference, Inferred, Posterior, Problem
from estep.core.types import Key
from estep.families.gaussian import Normal
from estep.nets import Network, soft_bound


class TwoColumns(Inference):
    """q(a|s) ∝ p(a|s)^share exp(f_φ(a; s)), where f is what the task adds to the prior of all tasks.

    Over choices f is a number for each. Of Gaussians f is quadratic, a Gaussian itself: precisions add up, and the mean
    is weighed by them. The prior gets no gradient.

    Source:
        Teh et al. 2017, arXiv:1707.04175.
    """

    net: Network
    share: float = eqx.field(static=True)
    low: float = eqx.field(static=True, default=-10.0)
    high: float = eqx.field(static=True, default=2.0)

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        tempered: Any = problem.prior
        shared, own = tempered.base(problem.obs), self.net(problem.obs)
        if isinstance(shared, Normal):
            mu, raw = jnp.split(own, 2)
            low, high = jnp.full(raw.shape, self.low), jnp.full(raw.shape, self.high)
            lam = product(shared, self.share, Normal(mu, soft_bound(raw, low, high)))
        else:
            lam = self.share * shared.log_probs + own
        return Inferred(lam, jnp.zeros(()), jnp.zeros(0))


def product(p: Normal, share: float, f: Normal) -> Float[Array, " l"]:
    """(μ, log σ) of the Gaussian p^share · f, up to a constant.

    Args:
        p: a Gaussian.
        share: its power.
        f: another Gaussian.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.gaussian import Normal
        >>> from estep.inference.columns import product
        >>> p, f = Normal(jnp.zeros(1), jnp.zeros(1)), Normal(jnp.ones(1), jnp.zeros(1))
        >>> print(product(p, 1.0, f).round(3))  # precisions 1 and 1: half way, of variance ½
        [ 0.5   -0.347]
    """
    p_precision, f_precision = share * jnp.exp(-2.0 * p.log_sigma), jnp.exp(-2.0 * f.log_sigma)
    precision = p_precision + f_precision
    mu = (p_precision * p.mu + f_precision * f.mu) / precision
    return jnp.concatenate([mu, -0.5 * jnp.log(precision)])
