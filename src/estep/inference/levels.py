"""Inference of two levels: a latent z that sees the state and its task, and actions that depend on z."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from jaxtyping import Array, Float

from estep.core.slots import Inference, Inferred, Posterior, Problem
from estep.core.types import Key, Obs, Scalar
from estep.families.levels import Levels, LowLevel
from estep.nets import Network, soft_bound


class TwoStage(Inference):
    """q(z|s) = N(μ, diag σ²) of one network, and q(u|z,x) of another at n samples of z, which are reparameterised.

    So the gradient of V reaches both levels through the action.

    Source:
        Tirumala et al. 2019, arXiv:1903.07438.
    """

    top: Network
    bottom: LowLevel
    samples: int = eqx.field(static=True)
    """n."""
    frozen: bool = eqx.field(static=True, default=False)
    """Whether the lower level stays as it is."""
    low: float = eqx.field(static=True, default=-5.0)
    high: float = eqx.field(static=True, default=2.0)
    """Limits of log σ of z."""

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        return self.after(problem, posterior, key, jnp.zeros(latent_of(posterior)), jnp.zeros(()))

    def after(
        self, problem: Problem, posterior: Posterior, key: Key, before: Float[Array, " k"], known: Scalar
    ) -> Inferred:
        """As `__call__`, with the z of the step before.

        Args:
            problem: the state, p, Q̂ and α.
            posterior: the family of q.
            key: a random key.
            before: the z of the step before.
            known: 1 where it is known, else 0.
        """
        noise = jax.random.normal(key, (self.samples, latent_of(posterior)))
        mu, log_sigma = self.latent(problem.obs)
        z = jax.vmap(lambda one: mu + jnp.exp(log_sigma) * one)(noise)
        return self.at(problem.obs, posterior, z, before, known)

    def latent(self, obs: Obs) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
        """μ and log σ of z in one state."""
        mu, raw = jnp.split(self.top(obs), 2)
        return mu, soft_bound(raw, jnp.full(raw.shape, self.low), jnp.full(raw.shape, self.high))

    def at(
        self, obs: Obs, posterior: Any, z: Float[Array, "n k"], before: Float[Array, " k"], known: Scalar
    ) -> Inferred:
        """λ at given samples of z. The arguments are those of `after`."""
        mu, log_sigma = self.latent(obs)
        bottom = sg(self.bottom) if self.frozen else self.bottom
        lams = jax.vmap(lambda z: bottom(obs, z, posterior.low))(jnp.concatenate([mu[None], z]))
        lam = jnp.concatenate([mu, log_sigma, before, known[None], z.ravel(), lams.ravel()])
        return Inferred(lam, jnp.zeros(()), jnp.zeros(0))


class Following(Inference):
    """Inference of two levels after the z of the step before, which a prior with memory stays near."""

    inference: TwoStage
    before: Float[Array, " k"]
    known: Scalar
    """1 where it is known, else 0."""

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        return self.inference.after(problem, posterior, key, self.before, self.known)


def latent_of(posterior: Any) -> int:
    """The size of z of a `Levels` family."""
    family: Levels = posterior
    return family.latent


def one_sample(inference: Any) -> Inference:
    """The optimiser with one sample of z, by which an agent acts."""
    changed: Inference = replace(inference, samples=1)
    return changed
