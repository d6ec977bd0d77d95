"""The uniform prior on the action box, or over choices."""

from __future__ import annotations

import jax.numpy as jnp

from estep.core.slots import Distribution, Prior
from estep.core.types import Clip, Obs, Spec, Tanh
from estep.errors import UsageError
from estep.families.categorical import Categorical
from estep.families.uniform import UniformAction, UniformSquashed


class Uniform(Prior):
    """p(a|s) = 2^-d on [-1, 1]^d: the poster's objective and the choice of Marino et al. (2021, arXiv:2010.10670).
    The same policies as `Flat`, values lower by α d log 2 a step, which matters only where episodes terminate. Over n
    choices it is 1/n, and log n takes the place of d log 2.

    Raises:
        UsageError: the action space is unbounded, where no uniform density exists.
    """

    density: Distribution

    def __init__(self, spec: Spec) -> None:
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
