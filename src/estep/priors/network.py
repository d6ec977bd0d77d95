"""Learned priors: the policy itself, where the M-step moves it to the posterior."""

from __future__ import annotations

import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from estep.core.slots import Distribution, Prior
from estep.core.types import Key, Obs, Spec
from estep.families.categorical import Categorical
from estep.families.full_gaussian import FullNormal, strictly_lower
from estep.families.gaussian import Normal
from estep.nets import Body, Network, glorot, mlp, soft_bound, with_bias

LOG_SIGMA = (-10.0, 2.0)
"""Where log σ of a network is kept."""


class GaussianNetwork(Prior):
    """p_θ(u|s) = N(μ_θ(s), diag σ_θ(s)²), with log σ bounded smoothly."""

    net: Network
    low: float = eqx.field(static=True, default=LOG_SIGMA[0])
    high: float = eqx.field(static=True, default=LOG_SIGMA[1])

    def __call__(self, obs: Obs) -> Distribution:
        mu, raw = jnp.split(self.net(obs), 2)
        return Normal(mu, bounded(raw, self.low, self.high))


class FullGaussianNetwork(Prior):
    """p_θ(u|s) = N(μ_θ(s), L_θ(s) L_θ(s)ᵀ), L = diag(σ) (I + N): correlations between dimensions of the action too."""

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


def bounded(log_sigma: Array, low: float, high: float) -> Array:
    """Each log scale moved smoothly into [low, high]."""
    return soft_bound(log_sigma, jnp.full(log_sigma.shape, low), jnp.full(log_sigma.shape, high))


def small_init(fan_in: int, fan_out: int) -> float:
    """A hundredth of Glorot's bound: the policy starts out the same in every state."""
    return 0.01 * glorot(fan_in, fan_out)


def gaussian_network(spec: Spec, hidden: Sequence[int] | Body, sigma: float, *, key: Key) -> GaussianNetwork:
    """A fresh prior near N(0, sigma²) in every state."""
    return GaussianNetwork(_network(spec, 2 * spec.action_dim, hidden, sigma, key))


def categorical_network(spec: Spec, hidden: Sequence[int] | Body, *, key: Key) -> CategoricalNetwork:
    """A fresh prior that is nearly uniform in every state."""
    return CategoricalNetwork(mlp((spec.obs_dim,), spec.action_dim, hidden, key=key, head=small_init))


def policy_network(
    spec: Spec, hidden: Sequence[int] | Body, sigma: float, *, key: Key
) -> GaussianNetwork | CategoricalNetwork:
    """A fresh prior of the kind that the actions ask for: nearly uniform over choices, or near N(0, sigma²)."""
    if spec.discrete:
        return categorical_network(spec, hidden, key=key)
    return gaussian_network(spec, hidden, sigma, key=key)


def full_gaussian_network(spec: Spec, hidden: Sequence[int] | Body, sigma: float, *, key: Key) -> FullGaussianNetwork:
    """A fresh prior near N(0, sigma² I) in every state."""
    size = 2 * spec.action_dim + spec.action_dim * (spec.action_dim - 1) // 2
    return FullGaussianNetwork(_network(spec, size, hidden, sigma, key), spec.action_dim)


def _network(spec: Spec, size: int, hidden: Sequence[int] | Body, sigma: float, key: Key) -> Network:
    """A network whose outputs start near μ = 0, σ = sigma, and 0 for the rest."""
    net = mlp((spec.obs_dim,), size, hidden, key=key, head=small_init)
    bias = jnp.zeros(size).at[spec.action_dim : 2 * spec.action_dim].set(inverse_soft_bound(math.log(sigma)))
    return with_bias(net, bias)


def inverse_soft_bound(log_sigma: float) -> float:
    """What `soft_bound` takes to log σ."""
    low, high = LOG_SIGMA
    above = low + math.log(math.expm1(log_sigma - low))
    return high - math.log(math.expm1(high - above))
