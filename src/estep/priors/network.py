"""Learned priors: the policy itself, where the M-step moves it to the posterior."""

from __future__ import annotations

import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from estep.core.slots import Distribution, Prior
from estep.core.types import Key, Obs, Spec
from estep.families.categorical import Categorical, FactoredCategorical
from estep.families.full_gaussian import FullNormal, strictly_lower
from estep.families.gaussian import Normal
from estep.nets import Body, Network, network, small_init, soft_bound, with_bias

LOG_SIGMA = (-10.0, 2.0)
"""Limits of log σ of a network."""


class GaussianNetwork(Prior):
    """p_θ(u|s) = N(μ_θ(s), diag σ_θ(s)²), with log σ bounded smoothly.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import Spec, make_key
        >>> from estep.priors.network import gaussian_network
        >>> p = gaussian_network(Spec(obs_dim=3, action_dim=2), (8,), 0.5, key=make_key(0))(jnp.zeros(3))
        >>> print(jnp.exp(p.log_sigma).round(2))
        [0.5 0.5]
    """

    net: Network
    low: float = eqx.field(static=True, default=LOG_SIGMA[0])
    high: float = eqx.field(static=True, default=LOG_SIGMA[1])

    def __call__(self, obs: Obs) -> Distribution:
        mu, raw = jnp.split(self.net(obs), 2)
        return Normal(mu, bounded(raw, self.low, self.high))


class FullGaussianNetwork(Prior):
    """p_θ(u|s) = N(μ_θ(s), L_θ(s) L_θ(s)ᵀ), L = diag(σ) (I + N), with log σ bounded smoothly.

    Dimensions of the action may be correlated.
    """

    net: Network
    action: int = eqx.field(static=True)
    low: float = eqx.field(static=True, default=LOG_SIGMA[0])
    high: float = eqx.field(static=True, default=LOG_SIGMA[1])

    def __call__(self, obs: Obs) -> Distribution:
        mu, raw, lower = jnp.split(self.net(obs), (self.action, 2 * self.action))
        return FullNormal(mu, bounded(raw, self.low, self.high), strictly_lower(lower, self.action))


class CategoricalNetwork(Prior):
    """p_θ(a|s) = softmax(f_θ(s))_a over the choices of a discrete action."""

    net: Network

    def __call__(self, obs: Obs) -> Distribution:
        return Categorical(self.net(obs))


class FactoredNetwork(Prior):
    """p_θ(a|s) = Π_i softmax(f_θ(s)_i)[a_i] over several independent choices."""

    net: Network
    sizes: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, obs: Obs) -> Distribution:
        return FactoredCategorical(self.net(obs), self.sizes)


def bounded(log_sigma: Array, low: float, high: float) -> Array:
    """Each log scale moved smoothly into [low, high].

    Args:
        log_sigma: what the network gives.
        low: the lower limit of all.
        high: the upper limit of all.
    """
    return soft_bound(log_sigma, jnp.full(log_sigma.shape, low), jnp.full(log_sigma.shape, high))


def gaussian_network(spec: Spec, hidden: Sequence[int] | Body, sigma: float, *, key: Key) -> GaussianNetwork:
    """A fresh prior near N(0, sigma²) in every state.

    Args:
        spec: the environment.
        hidden: sizes of the hidden layers, or a `Body`.
        sigma: the standard deviation, in units of u.
        key: a random key.
    """
    return GaussianNetwork(_network(spec, 2 * spec.action_dim, hidden, sigma, key))


def categorical_network(spec: Spec, hidden: Sequence[int] | Body, *, key: Key) -> CategoricalNetwork | FactoredNetwork:
    """A fresh prior that is nearly uniform in every state.

    Args:
        spec: the environment.
        hidden: sizes of the hidden layers, or a `Body`.
        key: a random key.
    """
    net = network((spec.obs_dim,), spec.action_dim, hidden, key=key, head=small_init)
    return FactoredNetwork(net, spec.factors) if len(spec.factors) > 1 else CategoricalNetwork(net)


def policy_network(
    spec: Spec, hidden: Sequence[int] | Body, sigma: float, *, key: Key
) -> GaussianNetwork | CategoricalNetwork | FactoredNetwork:
    """A fresh prior for the kind of action: nearly uniform over choices, or near N(0, sigma²).

    Args:
        spec: the environment.
        hidden: sizes of the hidden layers, or a `Body`.
        sigma: the standard deviation of a fresh Gaussian, in units of u.
        key: a random key.
    """
    if spec.factors:
        return categorical_network(spec, hidden, key=key)
    return gaussian_network(spec, hidden, sigma, key=key)


def full_gaussian_network(spec: Spec, hidden: Sequence[int] | Body, sigma: float, *, key: Key) -> FullGaussianNetwork:
    """A fresh prior near N(0, sigma² I) in every state.

    Args:
        spec: the environment.
        hidden: sizes of the hidden layers, or a `Body`.
        sigma: the standard deviation, in units of u.
        key: a random key.
    """
    size = 2 * spec.action_dim + spec.action_dim * (spec.action_dim - 1) // 2
    return FullGaussianNetwork(_network(spec, size, hidden, sigma, key), spec.action_dim)


def _network(spec: Spec, size: int, hidden: Sequence[int] | Body, sigma: float, key: Key) -> Network:
    """A network whose outputs start near μ = 0, σ = sigma, and 0 for the rest."""
    net = network((spec.obs_dim,), size, hidden, key=key, head=small_init)
    bias = jnp.zeros(size).at[spec.action_dim : 2 * spec.action_dim].set(inverse_soft_bound(math.log(sigma)))
    return with_bias(net, bias)


def inverse_soft_bound(log_sigma: float) -> float:
    """The number that `soft_bound` maps to log σ, with the limits of `LOG_SIGMA`."""
    low, high = LOG_SIGMA
    above = low + math.log(math.expm1(log_sigma - low))
    return high - math.log(math.expm1(high - above))
