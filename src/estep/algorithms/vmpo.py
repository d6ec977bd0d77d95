"""V-MPO, on-policy maximum a posteriori policy optimisation (Song et al. 2019, arXiv:1909.12238).

prior        learned, slow copy    p_θ(a|s), the policy itself; its slow copy took the actions
posterior    Boltzmann, batch      ψ(s,a) ∝ exp(A(s,a)/η) over the better half of the batch's steps
inference    closed form           ψ_t = softmax_t(A_t/η)
likelihood   V, λ-returns          A_t = Σ_k (γλ)^k δ_{t+k},   δ = r + γ V(s') - V(s)
temperature  η, learned            KL(ψ‖equal weights) ≤ ε, by the dual
m-step       trust region          max_θ Σ_t ψ_t log p_θ(a_t|s_t), KL to p̄ bounded over the whole batch

Continuous actions are squashed by a tanh; the KLs of mean and scale are bounded each. Discrete actions have one KL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from estep.algorithms.shared import TRUST_REGIONS
from estep.core.acting import act_from_prior
from estep.core.agent import Agent
from estep.core.bootstrap import prior_value
from estep.core.learned import fixed, learn
from estep.core.optim import adam, bounded_adam
from estep.core.types import Key, Spec
from estep.e_steps.actions_taken import BatchWeights
from estep.families.choose import family
from estep.inference.starts import AtPrior
from estep.likelihoods.state_value import state_value
from estep.m_steps import trust_region
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS, KLConstraint
from estep.nets import Body
from estep.priors.network import policy_network
from estep.settings import fields, groups
from estep.settings.kinds import check_order, named_options, validate


@named_options
@dataclass(frozen=True)
class VMPO(groups.FreshData, groups.LearnedPolicy, groups.Learner):
    """V-MPO: weigh the actions that were taken by their advantages, then fit the policy inside a trust region."""

    unroll: fields.Unroll = 32
    epochs: fields.Epochs = 8
    target_period: fields.TargetPeriod = 20
    top_fraction: fields.TopFraction = 0.5
    epsilon_mean: fields.EpsilonMean = 5e-3
    epsilon_scale: fields.EpsilonScale = 5e-5
    trust_region: fields.TrustRegion = "joint"

    def __post_init__(self) -> None:
        validate(self)
        check_order(self, "unroll", "rollout")

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment."""
        k_p, k_v = jax.random.split(key)
        body = Body(self.hidden_sizes, self.features)
        optimiser, dual = adam(self.learning_rate), bounded_adam(self.dual_learning_rate, *LOG_ALPHA_BOUNDS)
        prior = policy_network(spec, body, self.sigma, key=k_p)
        example = prior(jnp.zeros(spec.obs_dim))
        form = trust_region.form_for(example, *TRUST_REGIONS[self.trust_region])
        bounds = (self.epsilon_mean, 1.0), (self.epsilon_scale, 1.0)
        return Agent(
            prior=learn(prior, optimiser, tau=1.0, every=self.target_period),
            posterior=family(spec),
            inference=fixed(AtPrior()),
            likelihood=learn(state_value(spec, body, self.gamma, self.gae_lambda, key=k_v), optimiser),
            temperature=learn(KLConstraint(jnp.asarray(math.log(1.0)), self.epsilon), dual),
            projection=learn(trust_region.trust_region(example, bounds, None, *form), dual),
            spec=spec,
            e_step=BatchWeights(self.top_fraction),
            bootstrap=prior_value,
            behave=act_from_prior,
            infers=False,
            project=trust_region.project,
            length=self.unroll,
            rollout=self.rollout,
            epochs=self.epochs,
        )
