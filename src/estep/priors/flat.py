"""The flat prior: maximum entropy."""

from __future__ import annotations

from estep.core.slots import Distribution, Prior
from estep.core.types import Obs, Spec
from estep.families.uniform import Improper


class Flat(Prior):
    """p(a|s) ∝ 1, so that -KL(q‖p) = H(q): the published entropy form of SAC (Haarnoja et al. 2018). It cannot be
    sampled. In tasks that end, its entropy is a bonus for staying alive; `Uniform` makes the KL a cost. Over discrete
    actions, which count one each, it is the same."""

    density: Improper

    def __init__(self, spec: Spec) -> None:
        self.density = Improper(spec.squash, spec.action_dim)

    def __call__(self, obs: Obs) -> Distribution:
        return self.density
