"""Direct amortised inference: one pass of a network."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp

from estep.core.slots import Inference, Inferred, Posterior, Problem
from estep.core.types import Key
from estep.nets import Network


class Direct(Inference):
    """λ = f_φ(s), with log scales bounded smoothly.

    Source:
        Haarnoja et al. 2018, arXiv:1812.05905; there log scales are clipped, but a clip has no gradient outside.
    """

    net: Network
    low: float = eqx.field(static=True, default=-10.0)
    high: float = eqx.field(static=True, default=2.0)

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        low, high = (jnp.full(posterior.num_scales, limit) for limit in (self.low, self.high))
        lam = posterior.bound(self.net(problem.obs), low, high)
        return Inferred(lam, jnp.zeros(()), jnp.zeros(0))
