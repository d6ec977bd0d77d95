"""The family that the actions of an environment ask for."""

from __future__ import annotations

from estep.core.slots import Posterior
from estep.core.types import Spec
from estep.families.categorical import Softmax
from estep.families.gaussian import Gaussian
from estep.families.noise import Noise, independent
from estep.families.particles import Boltzmann


def family(spec: Spec, noise: Noise = independent) -> Posterior:
    """The parametric family: a distribution over the choices, or a Gaussian of reparameterised draws."""
    return Softmax(spec.action_dim) if spec.discrete else Gaussian(spec.action_dim, noise)


def boltzmann(spec: Spec, samples: int) -> Posterior:
    """The posterior p exp(Q̂/α)/Z itself: exact over choices, else as weighted draws of the prior."""
    return Softmax(spec.action_dim) if spec.discrete else Boltzmann(spec.action_dim, samples)
