"""The family that fits the actions of an environment."""

from __future__ import annotations

from estep.core.slots import Posterior
from estep.core.types import Spec
from estep.families.categorical import FactoredSoftmax, Softmax
from estep.families.gaussian import Gaussian
from estep.families.noise import Noise, independent
from estep.families.particles import Boltzmann


def family(spec: Spec, noise: Noise = independent) -> Posterior:
    """The parametric family: all distributions over the choices, independent ones where there are several, or diagonal
    Gaussians with reparameterised samples.

    Example:
        >>> from estep import Spec
        >>> from estep.core.types import OneHot
        >>> from estep.families.choose import family
        >>> type(family(Spec(3, 2))).__name__, type(family(Spec(4, 2, OneHot()))).__name__
        ('Gaussian', 'Softmax')
    """
    if len(spec.factors) > 1:
        return FactoredSoftmax(spec.factors)
    return Softmax(spec.action_dim) if spec.discrete else Gaussian(spec.action_dim, noise)


def boltzmann(spec: Spec, samples: int) -> Posterior:
    """The family for the posterior p exp(Q̂/α)/Z itself: exact over the choices of one action, else as weighted samples
    of the prior.

    Example:
        >>> from estep import Spec
        >>> from estep.families.choose import boltzmann
        >>> boltzmann(Spec(3, 2), samples=20).block_sizes
        (40, 20)
    """
    return Softmax(spec.action_dim) if spec.discrete else Boltzmann(spec.action_dim, samples)
