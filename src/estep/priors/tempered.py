"""A power of a prior: what is left of a learned prior where entropy has a price too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.learned import Learned
from estep.core.slots import Distribution, Draws, Prior
from estep.core.types import Action, Info, Key, Obs, Scalar, Squash
from estep.errors import UsageError
from estep.families.uniform import Improper

MStep = Callable[[Agent, Draws, Float[Array, "b o"]], tuple[Agent, Info]]


class TemperedDensity(Distribution):
    """log p(u)^(share), as a density over a: share · log p(u) + (1 - share) · log |da/du|. It is not normalised.

    Over choices it is share · log p(a). It cannot be sampled.

    Raises:
        UsageError: it is asked for samples.
    """

    base: Distribution
    squash: Squash
    share: float = eqx.field(static=True)

    def sample(self, key: Key) -> Action:
        raise UsageError("A tempered prior has no samples: it is not normalised.", "Sample its base instead.")

    def log_prob(self, action: Action) -> Scalar:
        return self.share * self.base.log_prob(action) + (1.0 - self.share) * self.squash.log_det(action)

    def mode(self) -> Action:
        """That of the base."""
        return self.base.mode()

    def draw(self, key: Key, n: int, prior: Distribution) -> Draws:
        raise UsageError("A tempered prior has no draws: it is not normalised.", "Draw from its base instead.")


class Tempered(Prior):
    """p(a|s)^share, the prior of two prices: c of KL(q‖p) and e of -H(q).

    c KL(q‖p) - e H(q) = (c + e) KL(q‖p^share) with share = c/(c + e), so the temperature is c + e. A share of 1 is p
    itself, and 0 the flat prior. A bare power of the density over u would reward the entropy of u, not of a.

    Raises:
        UsageError: the share is not in [0, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.core.types import Tanh
        >>> from estep.priors.gaussian import FixedGaussian
        >>> from estep.priors.tempered import Tempered
        >>> base, s, u = FixedGaussian(jnp.zeros(1), jnp.ones(1)), jnp.zeros(3), jnp.ones(1)
        >>> half, one = Tempered(base, Tanh(), 0.5)(s).log_prob(u), base(s).log_prob(u)
        >>> bool(jnp.isclose(half, 0.5 * one + 0.5 * Tanh().log_det(u)))
        True

    Source:
        The prior of Distral, Teh et al. 2017, arXiv:1707.04175.
    """

    base: Prior
    squash: Squash
    share: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            what = f"A prior is tempered by {self.share:g}, which is not between 0 and 1."
            raise UsageError(what, "Give prices of the KL and of the entropy that are 0 or more.")

    def __call__(self, obs: Obs) -> Distribution:
        p = self.base(obs)
        if self.share == 1.0:
            return p
        if self.share == 0.0:  # 0 · log p would not be a number where p is 0
            return Improper(self.squash, p.mode().shape[0])
        return TemperedDensity(p, self.squash, self.share)


def base_of(prior: Learned[Any]) -> Learned[Any]:
    """A learned `Tempered` as a learned prior without the power: the parameters are the same."""
    target = None if prior.target is None else prior.target.base
    return replace(prior, model=prior.model.base, target=target)


@dataclass(frozen=True)
class FitBase:
    """An M-step of an agent with a `Tempered` prior: fit p itself, not its power."""

    project: MStep
    """The M-step of an agent whose prior is p."""

    def __call__(self, agent: Agent, draws: Draws, obs: Float[Array, "b o"]) -> tuple[Agent, Info]:
        new, info = self.project(replace(agent, prior=base_of(agent.prior)), draws, obs)
        return replace(new, prior=replace(agent.prior, pending=new.prior.pending)), info
