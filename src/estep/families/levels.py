"""Policies of two levels: a latent z, and an action whose distribution depends on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.keys import make_key
from estep.core.slots import Distribution, Draws, Lam, Posterior
from estep.core.types import Action, Key, Obs, Scalar, Squash
from estep.errors import UsageError
from estep.families.categorical import Categorical
from estep.families.gaussian import Normal, gaussian_kl
from estep.families.mixture import NormalMixture
from estep.families.uniform import Improper
from estep.nets import Network, part_of, soft_bound


class LowLevel(eqx.Module):
    """The network of a lower level: from some numbers of the state, and z, to the λ of the action."""

    net: Network
    seen: tuple[int, ...] = eqx.field(static=True)
    """The places of these numbers in the observation."""
    low: float = eqx.field(static=True, default=-10.0)
    high: float = eqx.field(static=True, default=2.0)

    def __call__(self, obs: Obs, z: Float[Array, " k"], family: Posterior) -> Float[Array, " l"]:
        """λ of the family at z, with log scales bounded smoothly."""
        low, high = (jnp.full(family.num_scales, limit) for limit in (self.low, self.high))
        return family.bound(self.net(part_of(obs, self.seen), z), low, high)


class OverLatents(Distribution):
    """What a prior of two levels says in one state: p(z|x), and p(u|z,x) where it is not the policy's own.

    Its density over u is an integral that only the network of the lower level could give, so it has none here.

    Raises:
        UsageError: it is asked for a density, for samples or for a mode.
    """

    high: Normal
    """p(z|x), the stationary one where z depends on the z before."""
    low: Callable[[Array], Distribution] | None
    """From z to p(u|z,x); None where both levels of policy and prior have it in common."""
    rho: float = eqx.field(static=True)
    """ρ, by which z stays near the z of the step before; 0 for z that are independent."""
    squash: Squash
    share: float = eqx.field(static=True)
    """The share of the KL in both prices; the rest is the price of entropy, as in `Tempered`."""

    def sample(self, key: Key) -> Action:
        raise UsageError(NO_DENSITY, "Sample the policy instead.")

    def log_prob(self, action: Action) -> Scalar:
        raise UsageError(NO_DENSITY, "Use the KL of both levels instead.")

    def mode(self) -> Action:
        raise UsageError(NO_DENSITY, "Use the mode of the policy instead.")

    def draw(self, key: Key, n: int, prior: Distribution) -> Draws:
        raise UsageError(NO_DENSITY, "Draw from the policy instead.")

    def given(self, before: Float[Array, " k"], known: Scalar) -> Normal:
        """p(z|x) after the z of the step before: N(μ + ρ (z_before - μ), (1 - ρ²) σ²), or N(μ, σ²) if it is unknown.

        Args:
            before: the z of the step before.
            known: 1 where it is known, else 0.
        """
        mu = self.high.mu + self.rho * known * (before - self.high.mu)
        return Normal(mu, self.high.log_sigma + 0.5 * jnp.log1p(-self.rho * self.rho * known))


NO_DENSITY = "A prior of two levels is over its latent, and has no density over actions."


class TwoLevels(Distribution):
    """q(u) = ∫ q(z) q(u|z) dz, as the mixture of q(u|z_i) over n samples z_i of q(z).

    `draw` under a prior of two levels gives, in place of the KL of the mixture, the bound that is the sum of the KLs
    of both levels: KL(q(z)‖p(z)) + E_q KL(q(u|z)‖p(u|z)).

    Source:
        Tirumala et al. 2019, arXiv:1903.07438.
    """

    high: Normal
    """q(z)."""
    z: Float[Array, "n k"]
    before: Float[Array, " k"]
    """The z of the step before."""
    known: Scalar
    """1 where it is known, else 0."""
    at_mean: Distribution
    """q(u|z) at the mean of z, for the deterministic action."""
    low: Any
    """q(u|z_i), with a leading axis n in every array."""

    @property
    def marginal(self) -> Distribution:
        """The mixture."""
        if isinstance(self.low, Normal):
            return NormalMixture(jnp.zeros(len(self.z)), self.low.mu, self.low.log_sigma)
        return Categorical(jax.nn.logsumexp(jax.vmap(lambda q: q.log_probs)(self.low), axis=0))

    def sample(self, key: Key) -> Action:
        return self.marginal.sample(key)

    def log_prob(self, action: Action) -> Scalar:
        return self.marginal.log_prob(action)

    def mode(self) -> Action:
        """That of the lower level at the mean of z."""
        return self.at_mean.mode()

    def draw(self, key: Key, n: int, prior: Distribution) -> Draws:
        if not isinstance(prior, OverLatents):
            return self.marginal.draw(key, n, prior)
        draws = self.marginal.draw(key, n, Improper(prior.squash, self.at_mean.mode().shape[0]))
        ratio = prior.share * self.level_kl(prior) + (1.0 - prior.share) * draws.log_ratio
        return draws._replace(log_ratio=ratio)

    def level_kl(self, prior: OverLatents) -> Scalar:
        """KL(q(z)‖p(z)) + mean_i KL(q(u|z_i)‖p(u|z_i)), in nats, an upper bound of KL(q(u)‖p(u)).

        Args:
            prior: p, of two levels.
        """
        above = gaussian_kl(self.high, prior.given(self.before, self.known))
        if prior.low is None:
            return above
        return above + jax.vmap(divergence)(self.low, jax.vmap(prior.low)(self.z)).mean()

    def joint_log_prob(self, action: Action) -> Scalar:
        """log q(z_0) + log q(u|z_0) of the first z, in nats: of a policy that acts by one z, its density of both."""
        first: Distribution = jax.tree.map(lambda leaf: leaf[0], self.low)
        return self.high.log_prob(self.z[0]) + first.log_prob(action)


def divergence(q: Distribution, p: Distribution) -> Scalar:
    """KL(q‖p), in nats, of two Gaussians or of two distributions over choices.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.gaussian import Normal
        >>> from estep.families.levels import divergence
        >>> float(divergence(Normal(jnp.ones(2), jnp.zeros(2)), Normal(jnp.zeros(2), jnp.zeros(2))))
        1.0
    """
    draws = q.draw(make_key(0), 1, p)  # its KL has a closed form, so the key does not matter
    return draws.weight @ draws.log_ratio


class Levels(Posterior):
    """q(u; λ) with λ = (μ_z, log σ_z; the z before and whether it is known; n samples of z; the λ of the lower level at
    μ_z and at each sample).

    n follows from the size of λ. What λ holds of the lower level is what a network gives at these z: λ is not free.

    Raises:
        UsageError: an optimiser of λ asks where to start.
    """

    free: ClassVar[bool] = False
    latent: int = eqx.field(static=True)
    """k, the size of z."""
    low: Posterior
    """The family of the lower level."""
    samples: int = eqx.field(static=True)
    """n in training."""

    @property
    def block_sizes(self) -> tuple[int, ...]:
        k, each = self.latent, sum(self.low.block_sizes)
        return k, k, k + 1, self.samples * k, (self.samples + 1) * each

    @property
    def num_scales(self) -> int:
        return self.latent + (self.samples + 1) * self.low.num_scales

    def start(self, prior: Distribution) -> Lam:
        raise UsageError(
            "A posterior of two levels starts nowhere: its lower level is what a network gives.",
            "Use the optimiser that it was trained with.",
        )

    def bound(self, lam: Lam, low: Float[Array, " k"], high: Float[Array, " k"]) -> Lam:
        k = self.latent
        limits = [jnp.split(limit, [k]) for limit in (low, high)]
        (high_low, high_high), (each_low, each_high) = zip(*limits, strict=True)
        mu, log_sigma, rest, lams = self._split(lam)
        shape = len(lams), self.low.num_scales
        lams = jax.vmap(self.low.bound)(lams, each_low.reshape(shape), each_high.reshape(shape))
        return jnp.concatenate([mu, soft_bound(log_sigma, high_low, high_high), rest, lams.ravel()])

    def __call__(self, lam: Lam) -> TwoLevels:
        mu, log_sigma, rest, lams = self._split(lam)
        k = self.latent
        z = rest[k + 1 :].reshape(-1, k)
        low = jax.vmap(self.low)(lams[1:])
        return TwoLevels(Normal(mu, log_sigma), z, rest[:k], rest[k], self.low(lams[0]), low)

    def _split(self, lam: Lam) -> tuple[Array, Array, Array, Float[Array, "m l"]]:
        """μ_z, log σ_z, the z before with all samples of z, and the λ of the lower level at m = n + 1 of z."""
        k, each = self.latent, sum(self.low.block_sizes)
        n = (lam.shape[0] - 3 * k - 1 - each) // (k + each)
        mu, log_sigma, rest, lams = jnp.split(lam, (k, 2 * k, 3 * k + 1 + n * k))
        return mu, log_sigma, rest, lams.reshape(n + 1, each)
