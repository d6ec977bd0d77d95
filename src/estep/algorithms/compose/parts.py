"""The parts that `compose` puts together, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from estep.algorithms.shared import q_critic
from estep.core.learned import Learned, fixed, learn
from estep.core.optim import Optimiser
from estep.core.slots import Inference, Likelihood, Posterior, Prior, Projection
from estep.core.types import Key, Spec
from estep.families.autoregressive import Autoregressive
from estep.families.categorical import Softmax
from estep.families.full_gaussian import FullGaussian
from estep.families.gaussian import Gaussian
from estep.families.mixture import Mixture
from estep.families.noise import antithetic
from estep.families.particles import Boltzmann
from estep.inference.cem import CEM
from estep.inference.closed_form import closed_form
from estep.inference.direct import Direct
from estep.inference.gradient import GradientAscent, semi_amortised
from estep.inference.importance import Importance
from estep.inference.iterative import Iterations, iterative
from estep.inference.starts import AtPrior
from estep.likelihoods.state_value import state_value
from estep.m_steps import trust_region
from estep.m_steps.projection import Keep
from estep.m_steps.temperature import KLConstraint, least_entropy
from estep.nets import mlp
from estep.priors.flat import Flat
from estep.priors.gaussian import FixedGaussian
from estep.priors.network import policy_network
from estep.priors.uniform import Uniform

PRIORS: Mapping[str, Callable[[Any, Spec, Key], Prior]] = {
    "flat": lambda row, spec, key: Flat(spec),
    "uniform": lambda row, spec, key: Uniform(spec),
    "gaussian": lambda row, spec, key: FixedGaussian(jnp.zeros(spec.action_dim), jnp.ones(spec.action_dim)),
    "learned": lambda row, spec, key: policy_network(spec, row.hidden_sizes, row.sigma, key=key),
}
"""(row, environment, key) to a prior."""

POSTERIORS: Mapping[str, Callable[[Any, Spec], Posterior]] = {
    "gaussian": lambda row, spec: Gaussian(spec.action_dim, antithetic),
    "full-gaussian": lambda row, spec: FullGaussian(spec.action_dim, antithetic),
    "mixture": lambda row, spec: Mixture(spec.action_dim, row.components),
    "autoregressive": lambda row, spec: Autoregressive(spec.action_dim, antithetic),
    "boltzmann": lambda row, spec: Boltzmann(spec.action_dim, row.samples),
    "categorical": lambda row, spec: Softmax(spec.action_dim),
}
"""(row, environment) to a family."""


def _direct(row: Any, spec: Spec, posterior: Posterior, key: Key) -> Inference:
    return Direct(mlp((spec.obs_dim,), sum(posterior.block_sizes), row.hidden_sizes, key=key))


def _iterative(row: Any, spec: Spec, posterior: Posterior, key: Key, start: Inference | None = None) -> Inference:
    iterations = Iterations(row.iterations, row.samples)
    return iterative(spec.obs_dim, posterior, row.hidden_sizes, iterations, start=start, key=key)


STARTS: Mapping[str, Callable[[Any, Spec, Posterior, Key], Inference]] = {
    "prior": lambda row, spec, posterior, key: AtPrior(),
    "direct": _direct,
    "iterative": _iterative,
}
"""(row, environment, family, key) to what ends where an optimiser starts."""


def start(row: Any, spec: Spec, posterior: Posterior, key: Key) -> Inference:
    """Where the optimiser of a row starts, by a key of its own."""
    return STARTS[row.start](row, spec, posterior, jax.random.fold_in(key, 1))


INFERENCES: Mapping[str, Callable[[Any, Spec, Posterior, Key], Inference]] = {
    "direct": _direct,
    "iterative": lambda row, spec, posterior, key: _iterative(
        row, spec, posterior, key, start(row, spec, posterior, key)
    ),
    "semi-amortised": lambda row, *given: semi_amortised(
        _direct(row, *given), GradientAscent(row.iterations, row.samples)
    ),
    "gradient": lambda row, *given: GradientAscent(row.iterations, row.samples, start=start(row, *given)),
    "cem": lambda row, *given: CEM(row.iterations, row.num_candidates, start=start(row, *given)),
    "importance": lambda row, *given: Importance(row.num_candidates, row.iterations, start=start(row, *given)),
    "closed-form": lambda row, spec, posterior, key: closed_form(spec, row.samples),
    "advantages": lambda row, spec, posterior, key: AtPrior(),
}
"""(row, environment, family, key) to an optimiser."""


def critic(row: Any, spec: Spec, key: Key) -> Likelihood:
    """The likelihood of `compose`."""
    if row.likelihood == "state-value":
        return state_value(spec, row.hidden_sizes, row.gamma, row.gae_lambda, key=key)
    return q_critic(row, spec, key)


def temperature(row: Any, spec: Spec) -> KLConstraint:
    """The multiplier of KL(q‖p) ≤ ε, with an ε that suits the prior where none is given."""
    flat = least_entropy(spec, -1.0, 0.3)
    volume = math.log(spec.action_dim) if spec.discrete else spec.action_dim * math.log(2.0)
    natural = {"flat": flat.epsilon, "uniform": flat.epsilon + volume}
    return replace(flat, epsilon=row.epsilon or natural.get(row.prior, 0.1))


def region(row: Any, prior: Prior, spec: Spec) -> Projection:
    """How the M-step moves the prior, if it learns."""
    if row.prior != "learned":
        return Keep()
    example = prior(jnp.zeros(spec.obs_dim))
    form = trust_region.form_for(example, trust_region.decoupled, trust_region.joint)
    bounds = (row.epsilon_mean, 1.0), (row.epsilon_scale, 1.0)
    return trust_region.trust_region(example, bounds, None, *form)


def learned_if(learns: bool, model: Any, tx: Optimiser, **slow: Any) -> Learned[Any]:
    """Learned, with a slow copy where that is said, or fixed."""
    return learn(model, tx, **slow) if learns else fixed(model)


def has_parameters(inference: Inference) -> bool:
    """Whether an optimiser, or what it starts from, is a network."""
    return bool(jax.tree.leaves(inference))
