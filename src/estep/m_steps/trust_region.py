"""The M-step of MPO: fit a prior to weighted draws, not far from its slow copy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.agent import Agent
from estep.core.learned import Learned
from estep.core.slots import Draws, Prior, Projection
from estep.core.types import Info, Obs, Scalar
from estep.families.categorical import Categorical, categorical_kl
from estep.families.full_gaussian import FullNormal, full_kl
from estep.families.gaussian import Normal, gaussian_kl
from estep.m_steps.multipliers import InsideBox, Multiplier

Gauss = TypeVar("Gauss", Normal, FullNormal)
Split: TypeAlias = Callable[[Any, Any], dict[str, Any]]
"""(old, new) policy in one state to the policies that are fitted and constrained, by name."""
Measure: TypeAlias = Callable[[Any, Any], Float[Array, " k"]]
"""KL(old‖new) in one state, as the numbers that are bounded each on its own."""


def decoupled(old: Gauss, new: Gauss) -> dict[str, Gauss]:
    """The new mean with the old covariance, and the new covariance about the old mean (Abdolmaleki et al. 2018b): good
    actions off the mean widen the policy."""
    return {"mean": replace(old, mu=new.mu), "scale": replace(new, mu=old.mu)}


def coupled(old: Gauss, new: Gauss) -> dict[str, Gauss]:
    """The policy as it is: plain maximum likelihood, under one constraint."""
    return {"policy": new}


def per_dimension(q: Normal, p: Normal) -> Float[Array, " a"]:
    """One bound for each dimension of the action."""
    return jax.vmap(gaussian_kl)(q, p)


def joint(q: Normal, p: Normal) -> Float[Array, " 1"]:
    """One bound for all dimensions together."""
    return gaussian_kl(q, p)[None]


def joint_full(q: FullNormal, p: FullNormal) -> Float[Array, " 1"]:
    """One bound, of Gaussians with full covariances."""
    return full_kl(q, p)[None]


def choices(q: Categorical, p: Categorical) -> Float[Array, " 1"]:
    """One bound, of distributions over choices."""
    return categorical_kl(q, p)[None]


def form_for(example: Any, split: Split, measure: Measure) -> tuple[Split, Measure]:
    """The form that was asked for, or the only one where a policy has no mean to move by itself."""
    return (coupled, choices) if isinstance(example, Categorical) else (split, measure)


class TrustRegion(Projection):
    """max_θ Σ_i w_i log p_θ(a_i|s) subject to KL(p_slow‖p_θ) ≤ ε, for every part of the policy that `split` makes,
    by the multipliers of its names; the means over states are bounded."""

    multipliers: dict[str, Multiplier]
    box: InsideBox | None
    """A second objective, whose weights are added to those of the draws."""
    split: Split = eqx.field(static=True, default=decoupled)
    measure: Measure = eqx.field(static=True, default=per_dimension)

    def __call__(self, prior: Learned[Prior], draws: Draws, obs: Float[Array, "b o"]) -> tuple[Learned[Prior], Info]:
        """The prior's step alone; `fit` moves the multipliers too."""
        prior, (_, info) = self.descend(prior, draws, self.inside(draws), obs)
        return prior, info

    def inside(self, draws: Draws) -> Float[Array, "b n"] | None:
        """Log weights of the second objective."""
        return None if self.box is None else jax.vmap(self.box)(draws.action)

    def descend(
        self, prior: Learned[Prior], draws: Draws, inside: Float[Array, "b n"] | None, obs: Float[Array, "b o"]
    ) -> tuple[Learned[Prior], tuple[dict[str, Array], Info]]:
        """The prior's step on the penalised likelihood; and the constrained means, by part, before it."""
        slow, alphas = prior.slow, {name: multiplier() for name, multiplier in self.multipliers.items()}
        weight = draws.weight if inside is None else draws.weight + jnp.exp(inside)

        def one(model: Prior, obs: Obs, action: Float[Array, "n a"], weight: Array) -> tuple[Scalar, dict[str, Array]]:
            old = slow(obs)
            parts = self.split(old, model(obs))
            fitted = sum((weight @ jax.vmap(part.log_prob)(action) for part in parts.values()), jnp.zeros(()))
            return fitted, {name: self.measure(old, part) for name, part in parts.items()}

        def loss(model: Prior) -> tuple[Scalar, tuple[dict[str, Array], Info]]:
            fitted, kls = jax.vmap(one, (None, 0, 0, 0))(model, obs, draws.action, weight)
            means = {name: kl.mean(0) for name, kl in kls.items()}
            penalty = sum((alphas[name] @ mean for name, mean in means.items()), jnp.zeros(()))
            info = {"m/fit": fitted.mean()}
            info |= {f"m/kl_{name}": mean.sum() for name, mean in means.items()}
            info |= {f"m/alpha_{name}": alpha.mean() for name, alpha in alphas.items()}
            bounds = {name: one.epsilon * means[name].shape[0] for name, one in self.multipliers.items()}
            info |= {f"m/kl_{name}_bound": jnp.asarray(bound, jnp.float32) for name, bound in bounds.items()}
            return penalty - fitted.mean(), (means, info)

        return prior.descend(loss)

    def loss(self, means: dict[str, Array], inside: Float[Array, "b n"] | None) -> tuple[Scalar, Info]:
        """What moves the multipliers, given the constrained means; and the temperature of the second objective."""
        loss = sum((self.multipliers[name].loss(mean) for name, mean in means.items()), jnp.zeros(()))
        if self.box is None or inside is None:
            return loss, {}
        return loss + self.box.loss(inside), {"m/alpha_box": self.box.temperature()[0]}


def project(agent: Agent, draws: Draws, obs: Float[Array, "b o"]) -> tuple[Agent, Info]:
    """The M-step of a `TrustRegion`: the prior by its penalised likelihood, the multipliers by their constraints."""
    own: Learned[Any] = agent.projection
    inside = own.model.inside(draws)
    prior, (means, p) = own.model.descend(agent.prior, draws, inside, obs)
    own, d = own.descend(lambda region: region.loss(means, inside))
    return replace(agent, prior=prior, projection=own), p | d


def trust_region(
    example: Any,
    bounds: Sequence[tuple[float, float]],
    box: InsideBox | None = None,
    split: Split = decoupled,
    measure: Measure = per_dimension,
) -> TrustRegion:
    """Fresh multipliers.

    Args:
        example: any policy of the family, for its sizes.
        bounds: ε of each part that `split` makes, in order, and where its multipliers start.
        box: the second objective.
    """
    parts = split(example, example)
    sizes = {name: measure(example, part).shape for name, part in parts.items()}
    multipliers = {
        name: Multiplier(jnp.full(size, math.log(start)), epsilon)
        for (name, size), (epsilon, start) in zip(sizes.items(), bounds, strict=False)
    }
    return TrustRegion(multipliers, box, split, measure)
