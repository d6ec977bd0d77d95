"""The flat prior, for maximum entropy."""

from __future__ import annotations

from estep.core.slots import Distribution, Prior
from estep.core.types import Obs, Spec
from estep.families.uniform import Improper


class Flat(Prior):
    """p(a|s) = 1, so that -KL(q‖p) = H(q): the published entropy form of SAC. It cannot be sampled.

    Where episodes terminate, the entropy can be a bonus for staying alive; with `Uniform` the KL is a cost. Over
    discrete actions, p = 1 for each choice.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import Spec
        >>> from estep.core.types import Identity
        >>> from estep.priors.flat import Flat
        >>> float(Flat(Spec(3, 2, Identity()))(jnp.zeros(3)).log_prob(jnp.ones(2)))
        0.0

    Source:
        Haarnoja et al. 2018, arXiv:1812.05905.
    """

    density: Improper

    def __init__(self, spec: Spec) -> None:
        self.density = Improper(spec.squash, spec.action_dim)

    def __call__(self, obs: Obs) -> Distribution:
        return self.density
