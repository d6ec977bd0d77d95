"""The M-step of MPO: fit a prior to weighted samples, in a trust region around its slow copy."""

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
from estep.families.categorical import Categorical, FactoredCategorical, categorical_kl
from estep.families.full_gaussian import FullNormal, full_kl
from estep.families.gaussian import Normal, gaussian_kl
from estep.m_steps.multipliers import InsideBox, Multiplier

Gauss = TypeVar("Gauss", Normal, FullNormal)
Split: TypeAlias = Callable[[Any, Any], dict[str, Any]]
"""From the old and the new policy in one state to the parts that are fitted and constrained, by name."""
Measure: TypeAlias = Callable[[Any, Any], Float[Array, " k"]]
"""KL(old‖new) in one state in nats, as k numbers with a bound each."""


def decoupled(old: Gauss, new: Gauss) -> dict[str, Gauss]:
    """A `Split`: the new mean with the old covariance, and the new covariance with the old mean.

    So good actions far from the mean widen the policy.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.gaussian import Normal
        >>> from estep.m_steps.trust_region import decoupled
        >>> parts = decoupled(Normal(jnp.zeros(1), jnp.zeros(1)), Normal(jnp.ones(1), jnp.full(1, 2.0)))
        >>> print(parts["mean"].mu, parts["mean"].log_sigma, parts["scale"].mu, parts["scale"].log_sigma)
        [1.] [0.] [0.] [2.]

    Source:
        Abdolmaleki et al. 2018b, arXiv:1812.02256.
    """
    return {"mean": replace(old, mu=new.mu), "scale": replace(new, mu=old.mu)}


def coupled(old: Gauss, new: Gauss) -> dict[str, Gauss]:
    """A `Split` into one part, the new policy itself: maximum likelihood under one constraint."""
    return {"policy": new}


def per_dimension(q: Normal, p: Normal) -> Float[Array, " a"]:
    """A `Measure`: one KL for each dimension of the action."""
    return jax.vmap(gaussian_kl)(q, p)


def joint(q: Normal, p: Normal) -> Float[Array, " 1"]:
    """A `Measure`: one KL for all dimensions together."""
    return gaussian_kl(q, p)[None]


def joint_full(q: FullNormal, p: FullNormal) -> Float[Array, " 1"]:
    """A `Measure`: one KL, of Gaussians with full covariances."""
    return full_kl(q, p)[None]


def choices(q: Categorical | FactoredCategorical, p: Categorical | FactoredCategorical) -> Float[Array, " 1"]:
    """A `Measure`: one KL, of distributions over choices; over several choices, the sum."""
    return categorical_kl(q, p)[None]


def form_for(example: Any, split: Split, measure: Measure) -> tuple[Split, Measure]:
    """The given split and measure, or `coupled` and `choices` where a policy is a distribution over choices.

    Args:
        example: any policy of the family.
        split: the split of a Gaussian.
        measure: the measure of a Gaussian.
    """
    return (coupled, choices) if isinstance(example, Categorical | FactoredCategorical) else (split, measure)


class TrustRegion(Projection):
    """max_θ Σ_i w_i log p_θ(a_i|s) subject to KL(p_slow‖p_θ) ≤ ε, on average over states.

    The objective is a sum over the parts of the policy that `split` gives. Each part has bounds and multipliers of its
    own, by its name.

    Source:
        Abdolmaleki et al. 2018a, arXiv:1806.06920, and 2018b, arXiv:1812.02256.
    """

    multipliers: dict[str, Multiplier]
    box: InsideBox | None
    """A second objective, whose weights are added to those of the samples; None for none."""
    split: Split = eqx.field(static=True, default=decoupled)
    measure: Measure = eqx.field(static=True, default=per_dimension)

    def __call__(self, prior: Learned[Prior], draws: Draws, obs: Float[Array, "b o"]) -> tuple[Learned[Prior], Info]:
        """The step of the prior alone; `project` moves the multipliers too."""
        prior, (_, info) = self.descend(prior, draws, self.inside(draws), obs)
        return prior, info

    def inside(self, draws: Draws) -> Float[Array, "b n"] | None:
        """Log weights of the second objective, if there is one."""
        return None if self.box is None else jax.vmap(self.box)(draws.action)

    def descend(
        self, prior: Learned[Prior], draws: Draws, inside: Float[Array, "b n"] | None, obs: Float[Array, "b o"]
    ) -> tuple[Learned[Prior], tuple[dict[str, Array], Info]]:
        """A step of the prior on the likelihood less the constraints times their multipliers.

        Args:
            prior: the prior.
            draws: samples of the posterior [b, n].
            inside: log weights of the second objective, if there is one.
            obs: the states.

        Returns:
            The prior with its step pending; the batch means of the constrained KLs before the step, by part; and
            scalars to log.
        """
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
        """The loss of the multipliers and of the temperature of the second objective, and scalars to log.

        Args:
            means: the batch means of the constrained KLs, by part.
            inside: log weights of the second objective, if there is one.
        """
        loss = sum((self.multipliers[name].loss(mean) for name, mean in means.items()), jnp.zeros(()))
        if self.box is None or inside is None:
            return loss, {}
        return loss + self.box.loss(inside), {"m/alpha_box": self.box.temperature()[0]}


def project(agent: Agent, draws: Draws, obs: Float[Array, "b o"]) -> tuple[Agent, Info]:
    """The M-step of a `TrustRegion`: steps of the prior and of the multipliers.

    Args:
        agent: an agent whose projection is a `TrustRegion`.
        draws: samples of the posterior [b, n].
        obs: the states.

    Returns:
        The agent with both steps pending, and scalars to log.
    """
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
    """A trust region with fresh multipliers.

    Args:
        example: any policy of the family, for its sizes.
        bounds: for each part that `split` gives, in order: ε in nats, and the multipliers at first.
        box: the second objective.
        split: the parts of the policy.
        measure: the constrained KLs of a part.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.gaussian import Normal
        >>> from estep.m_steps.trust_region import trust_region
        >>> region = trust_region(Normal(jnp.zeros(2), jnp.zeros(2)), [(0.1, 10.0), (1e-4, 1000.0)])
        >>> {name: (one.epsilon, one().shape) for name, one in region.multipliers.items()}
        {'mean': (0.1, (2,)), 'scale': (0.0001, (2,))}
    """
    parts = split(example, example)
    sizes = {name: measure(example, part).shape for name, part in parts.items()}
    multipliers = {
        name: Multiplier(jnp.full(size, math.log(start)), epsilon)
        for (name, size), (epsilon, start) in zip(sizes.items(), bounds, strict=False)
    }
    return TrustRegion(multipliers, box, split, measure)
