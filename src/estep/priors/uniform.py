"""The uniform prior on the action box, or over choices."""

from __future__ import annotations

import jax.numpy as jnp

from estep.core.slots import Distribution, Prior
from estep.core.types import Clip, Obs, Spec, Tanh
from estep.errors import UsageError
from estep.families.categorical import Categorical, FactoredCategorical
from estep.families.uniform import UniformAction, UniformSquashed


class Uniform(Prior):
    """p(a|s) = 2^-d on [-1, 1]^d, and 1/n over n choices or combinations of choices.

    Policies are the same as with `Flat`, and values lower by α d log 2 a step (α log n over choices). The difference
    matters only where episodes terminate.

    Raises:
        UsageError: the action space is unbounded, where no uniform density exists.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import Spec
        >>> from estep.core.types import OneHot
        >>> from estep.priors.uniform import Uniform
        >>> p = Uniform(Spec(obs_dim=4, action_dim=2, squash=OneHot()))(jnp.zeros(4))
        >>> print(jnp.exp(p.log_probs).round(2))
        [0.5 0.5]

    Source:
        The choice of Marino et al. 2021, arXiv:2010.10670.
    """

    density: Distribution

    def __init__(self, spec: Spec) -> None:
        if len(spec.factors) > 1:
            self.density = FactoredCategorical(jnp.zeros(spec.action_dim), spec.factors)
            return
        if spec.discrete:
            self.density = Categorical(jnp.zeros(spec.action_dim))
            return
        if isinstance(spec.squash, Clip):
            self.density = UniformAction(spec.action_dim)
            return
        if not isinstance(spec.squash, Tanh):
            raise UsageError(
                "A uniform prior needs a bounded action space.", "Use priors.Flat or priors.FixedGaussian."
            )
        self.density = UniformSquashed(spec.action_dim)

    def __call__(self, obs: Obs) -> Distribution:
        return self.density
