"""What rows about several tasks are built from: the prior that the tasks share, and the prices of two regularisers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from estep.core.agent import Agent
from estep.core.bootstrap import slow_posterior_value
from estep.core.learned import Learned, learn
from estep.core.optim import bounded_adam
from estep.core.slots import Bootstrap, Inference, Projection
from estep.core.types import Key, Spec
from estep.errors import UsageError
from estep.families.choose import family
from estep.families.levels import LowLevel
from estep.inference.closed_form import Exact
from estep.inference.columns import TwoColumns
from estep.inference.direct import Direct
from estep.inference.levels import TwoStage
from estep.m_steps import trust_region
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS, Constant
from estep.nets import Seeing, network, policy_body, with_bias
from estep.priors.levels import LevelPrior
from estep.priors.network import gaussian_network, inverse_soft_bound, policy_network
from estep.priors.restricted import places, restricted
from estep.priors.tempered import Tempered, base_of
from estep.settings import groups


def check_prices(row: Any) -> None:
    """Check every setting of an algorithm with a shared prior, in its plain form.

    Raises:
        UsageError: a value is out of bounds, or neither the KL nor entropy has a price.
    """
    groups.validate_with_inference(row)
    if row.kl_cost + row.entropy_cost < LEAST_PRICE:
        raise UsageError(
            f"--kl-cost and --entropy-cost are {row.kl_cost:g} and {row.entropy_cost:g}, so their sum, the "
            "temperature, is 0.",
            "Give one of them a value above 1e-6.",
        )


def price_of(row: Any) -> Constant:
    """The fixed temperature, the sum of both prices."""
    return Constant(jnp.asarray(row.kl_cost + row.entropy_cost))


def shared_prior(row: Any, spec: Spec, key: Key) -> Tempered:
    """A fresh prior, which sees a part of the state, to the power that the price of its KL has in both prices.

    Args:
        row: an algorithm with the settings of `SharedPrior`.
        spec: the environment.
        key: a random key.

    Raises:
        UsageError: the prior is to see what the observation does not have.
    """
    base = restricted(spec, row.prior_sees, lambda seen: policy_network(seen, policy_body(row), row.sigma, key=key))
    return Tempered(base, spec.squash, row.kl_cost / (row.kl_cost + row.entropy_cost))


def policies_of(row: Any, spec: Spec, prior: Tempered, key: Key) -> Inference:
    """How the policies of all tasks are inferred: by a fresh network, or in closed form.

    Args:
        row: an algorithm with the settings of `SharedPrior` and the setting `policies`.
        spec: the environment.
        prior: the prior that they share.
        key: a random key.
    """
    if row.policies == "two-column" and spec.discrete:
        return Exact()
    if row.policies == "one-column":
        return direct_policy(row, spec, key)
    if row.policies == "two-column":
        return TwoColumns(direct_policy(row, spec, key).net, prior.share)
    seen = places(spec, row.prior_sees)
    net: Any = network((max(len(seen), 1),), sum(family(spec).block_sizes), policy_body(row), key=key)
    return Direct(Seeing(net, seen))


def direct_policy(row: Any, spec: Spec, key: Key) -> Direct:
    """A fresh network from a state with its task to the policy."""
    body = policy_body(row)._replace(tasks=heads_of(row, spec))
    return Direct(network((spec.obs_dim,), sum(family(spec).block_sizes), body, key=key))


def heads_of(row: Any, spec: Spec) -> int:
    """How many output layers a network has, one for each task; 0 for one in all."""
    return spec.tasks if row.heads == "own" else 0


def level_prior(row: Any, spec: Spec, key: Key) -> LevelPrior:
    """A fresh prior of two levels.

    Args:
        row: an algorithm with the settings of `SharedPrior`, and those of `hierarchical`.
        spec: the environment.
        key: a random key.

    Raises:
        UsageError: the prior is to see what the observation does not have.
    """
    k_top, k_bottom = jax.random.split(key)
    body, share = policy_body(row), row.kl_cost / (row.kl_cost + row.entropy_cost)
    over_z = lambda seen: gaussian_network(seen._replace(action_dim=row.latent), body, 1.0, key=k_top)
    top = restricted(spec, row.prior_sees, over_z) if row.latent_prior == "learned" else None
    bottom = low_level(row, spec, places(spec, row.prior_sees), k_bottom) if row.low_level == "own" else None
    return LevelPrior(top, bottom, family(spec), row.latent, row.rho, share, spec.squash)


def two_stage(row: Any, spec: Spec, key: Key) -> TwoStage:
    """Fresh networks from a state with its task to z, and from z with what the lower level sees to the action.

    Args:
        row: as in `level_prior`.
        spec: the environment.
        key: a random key.
    """
    k_top, k_bottom = jax.random.split(key)
    body = policy_body(row)._replace(tasks=heads_of(row, spec))
    top = network((spec.obs_dim,), 2 * row.latent, body, key=k_top)
    seen = places(spec, row.prior_sees) if row.low_level == "shared" else tuple(range(spec.obs_dim))
    return TwoStage(top, low_level(row, spec, seen, k_bottom), row.samples, bool(row.freeze_low))


def low_level(row: Any, spec: Spec, seen: tuple[int, ...], key: Key) -> LowLevel:
    """A fresh lower level, whose Gaussian begins with the standard deviation `sigma`."""
    net = network((max(len(seen), 1), row.latent), sum(family(spec).block_sizes), policy_body(row), key=key)
    if not spec.factors:
        scale = jnp.full(spec.action_dim, inverse_soft_bound(math.log(row.sigma)))
        net = with_bias(net, jnp.concatenate([jnp.zeros(spec.action_dim), scale]))
    return LowLevel(net, seen)


def near_slow_copy(row: Any, spec: Spec, prior: Tempered) -> Learned[Projection]:
    """The trust region of an M-step: the KL of mean and of scale from the slow copy of the prior is bounded.

    Args:
        row: an algorithm with the settings `epsilon_mean`, `epsilon_scale` and `dual_learning_rate`.
        spec: the environment.
        prior: the prior that is fitted.
    """
    example = prior.base(jnp.zeros(spec.obs_dim))
    form = trust_region.form_for(example, trust_region.decoupled, trust_region.joint)
    bounds = (row.epsilon_mean, 1.0), (row.epsilon_scale, 1.0)
    region: Projection = trust_region.trust_region(example, bounds, None, *form)
    return learn(region, bounded_adam(row.dual_learning_rate, *LOG_ALPHA_BOUNDS))


def value_without_entropy(agent: Agent) -> Bootstrap:
    """V̄(s') of the slow copy of the posterior, with the price of its KL to p as a cost, and none of its entropy."""
    prior: Any = agent.prior.model
    price: Any = agent.temperature.model
    alone = replace(price, alpha=prior.share * price.alpha)
    temperature = replace(agent.temperature, model=alone, target=None)
    return slow_posterior_value(replace(agent, prior=base_of(agent.prior), temperature=temperature))


LEAST_PRICE = 1e-6
"""Of the sum of both, the temperature."""
