"""Amortised Stein variational gradient descent: a network that turns noise into samples of the posterior."""

from __future__ import annotations

import functools as ft

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.bootstrap import log_mean_exp_value
from estep.core.objective import comparable_values
from estep.core.slots import Bootstrap, Distribution, Inference, Inferred, Posterior, Problem
from estep.core.types import Key, Obs
from estep.errors import UsageError
from estep.families.mixture import NormalMixture
from estep.families.noise import antithetic
from estep.families.sampler import EqualMixture
from estep.nets import Network

LEAST_SIGMA = 0.05
"""The least standard deviation of the neighbourhood of a sample, in units of u."""


class Stein(Inference):
    """u_i = h_φ(s, ξ_i) = ξ_i + f_φ(s, ξ_i), ξ_i ~ N(0, I), as the λ of an `Implicit` posterior of as many samples.

    The noise is added to the output of the network, so that a fresh sampler, whose f_φ is near 0, is near the uniform
    prior (the standard deviation of its u is 0.9). A sampler that is narrow at first never finds distant modes.

    Source:
        Wang & Liu 2016, arXiv:1611.01722; Haarnoja et al. 2017.
    """

    net: Network
    action: int = eqx.field(static=True)
    samples: int = eqx.field(static=True)

    def evaluations(self, choices: int | None = None) -> tuple[int, int]:
        return self.samples, 0

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        k_point, k_value = jax.random.split(key)
        action = self.points(problem.obs, k_point, self.samples)
        values = comparable_values(problem, action, k_value)
        return Inferred(jnp.concatenate([action.ravel(), values]), jnp.zeros(()), jnp.zeros(0))

    def points(self, obs: Obs, key: Key, n: int) -> Float[Array, "n a"]:
        """n samples in one state, in pairs from ξ and -ξ.

        With independent noise the share of a mode drifts during training.

        Args:
            obs: the state.
            key: a random key.
            n: how many samples.
        """
        noise = antithetic(key, n, self.action)
        action: Array = noise + jax.vmap(ft.partial(self.net, obs))(noise)
        return action


def sampler_of(inference: Inference) -> Stein:
    """The optimiser, checked to be a sampler that SVGD can train.

    Raises:
        UsageError: it is another optimiser.
    """
    if not isinstance(inference, Stein):
        raise UsageError(f"{type(inference).__name__} is no sampler that SVGD can train.", "Use inference.stein.Stein.")
    return inference


def neighbourhood(agent: Agent, obs: Obs, key: Key) -> Distribution:
    """A density near the sampler: half the prior, half a mixture of Gaussians around n samples.

    The standard deviation of each Gaussian in dimension i is σ_i of the samples times n^(-1/(d + 4)).

    Args:
        agent: an agent whose inference is `Stein`.
        obs: the state.
        key: a random key.

    Source:
        The width is Scott's rule (1992).
    """
    sampler = sampler_of(agent.targeting(agent.inference.model))
    places = sampler.points(obs, key, sampler.samples)
    n, d = places.shape
    sigma = jnp.maximum(places.std(0) * n ** (-1 / (d + 4)), LEAST_SIGMA)
    near = NormalMixture(jnp.zeros(n), places, jnp.broadcast_to(jnp.log(sigma), (n, d)))
    return EqualMixture(agent.prior.slow(obs), near)


def near_sampler_value(agent: Agent) -> Bootstrap:
    """V̄(s') by importance sampling from the neighbourhood of the sampler.

    In many dimensions, samples of the prior miss the modes of the posterior.
    """
    return log_mean_exp_value(agent, neighbourhood)
