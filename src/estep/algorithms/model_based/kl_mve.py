"""Imagined steps under a learned prior (estep).

prior        learned, slow copy    p_θ(a|s) = N(μ_θ(s), σ_θ(s)²), of the whole state or of a part of it
posterior    tanh-Gaussian         q(u; λ), λ = (μ, log σ), a = tanh u
inference    direct amortised      λ = f_φ(s), by the gradient through action, model and policy
likelihood   twin Q and a model    Q̂(s,a) = λ-return of h steps of the model, then min_k Q_k;   y = r + γ V̄(s')
temperature  fixed, or learned     E_s KL(q‖p̄) ≤ ε
m-step       trust region          max_θ E_q log p_θ, KL of mean and of scale to p̄ bounded each

α is fixed by default. A prior that may follow the policy everywhere brings the KL below any ε, and then the multiplier
of the bound goes to 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

import jax
import jax.numpy as jnp

from estep.algorithms.model_based.model import check_model, with_model
from estep.algorithms.sac import SAC
from estep.algorithms.shared import like
from estep.core.agent import Agent
from estep.core.learned import fixed, learn
from estep.core.optim import adam, bounded_adam
from estep.core.types import Key, Spec
from estep.m_steps import trust_region
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS, Constant, KLConstraint
from estep.nets import policy_body
from estep.priors.network import policy_network
from estep.priors.restricted import restricted
from estep.settings import fields, groups, part_fields
from estep.settings.kinds import Help, named_options


@named_options
@dataclass(frozen=True)
class KLMVE(groups.Imagined, groups.WorldModel, groups.InferOn, groups.QInference, groups.QEnsemble, groups.Learner):
    """A policy that maximises returns of a few imagined steps, less the KL to a prior that follows it slowly."""

    tau: fields.Tau = 0.005
    target_period: Annotated[fields.TargetPeriod, Help("Updates from one copy of the slow prior to the next.")] = 100
    alpha: fields.Alpha = 0.1
    epsilon: part_fields.EpsilonOrFixed = 0.0
    dual_learning_rate: fields.DualLearningRate = 1e-2
    sigma: fields.Sigma = 0.7
    prior_sees: part_fields.PriorSees = ("all",)
    samples: fields.Samples = 4
    epsilon_mean: fields.EpsilonMean = 5e-3
    epsilon_scale: fields.EpsilonScale = 5e-5

    def __post_init__(self) -> None:
        groups.validate_with_inference(self)
        check_model(self)

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment. Raises UsageError where the prior has inputs that are not there."""
        k_p, k_agent = jax.random.split(key)
        dual = bounded_adam(self.dual_learning_rate, *LOG_ALPHA_BOUNDS)
        prior = restricted(
            spec, self.prior_sees, lambda seen: policy_network(seen, policy_body(self), self.sigma, key=k_p)
        )
        example = prior(jnp.zeros(spec.obs_dim))
        form = trust_region.form_for(example, trust_region.decoupled, trust_region.joint)
        region = trust_region.trust_region(example, [(self.epsilon_mean, 1.0), (self.epsilon_scale, 1.0)], None, *form)
        bound = KLConstraint(jnp.asarray(math.log(self.alpha)), self.epsilon)
        agent = replace(
            like(SAC, self).init(spec, k_agent),
            prior=learn(prior, adam(self.learning_rate), tau=1.0, every=self.target_period),
            temperature=learn(bound, dual) if self.epsilon else fixed(Constant(jnp.asarray(self.alpha))),
            projection=learn(region, dual),
            project=trust_region.project,
            samples=self.samples,
        )
        return with_model(agent, self, k_agent)
