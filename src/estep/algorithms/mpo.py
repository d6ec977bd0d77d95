"""Maximum a posteriori policy optimisation (Abdolmaleki et al. 2018, arXiv:1806.06920).

prior        learned, slow copy    p_θ(a|s) = N(μ_θ(s), diag σ_θ(s)²), the policy itself
posterior    Boltzmann             q(a|s) ∝ p̄(a|s) exp(Q̄(s,a)/η), n weighted samples of p̄
inference    closed form           w_i = softmax_i(Q̄(s,a_i)/η)
likelihood   Q, Retrace            y of p̄'s plain return, corrected for who acted; or n-step, or TD(0)
temperature  η, learned            E_s KL(q‖p̄) ≤ ε, by the dual
m-step       trust region          max_θ E_q log p_θ, KL of mean and of scale to p̄ bounded each

The Gaussian is over the action itself: actions are clipped to the box, and a second objective keeps them inside.
Over discrete actions p and q are categorical, q and both expectations are exact, and one KL is bounded. Over several
choices at once p is a product, and q has weighted samples of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from estep.algorithms.shared import TRUST_REGIONS, q_critic, weighted_region
from estep.core.acting import act_from_posterior, act_from_prior, log_prob_memo
from estep.core.agent import Agent
from estep.core.bootstrap import prior_value
from estep.core.learned import fixed, learn
from estep.core.optim import adam, bounded_adam
from estep.core.types import Key, Spec, unsquashed
from estep.e_steps.climb import ClimbFraction
from estep.errors import UsageError
from estep.families.choose import boltzmann
from estep.inference.closed_form import closed_form
from estep.likelihoods.maximised import Maximised
from estep.m_steps import trust_region
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS, KLConstraint
from estep.nets import policy_body
from estep.priors.network import policy_network
from estep.settings import fields, groups
from estep.settings.kinds import named_options

BEHAVE = {"prior": act_from_prior, "posterior": act_from_posterior}


@named_options
@dataclass(frozen=True)
class MPO(
    groups.WeightedSamples, groups.LearnedPolicy, groups.SlowCopies, groups.QInference, groups.QEnsemble, groups.Learner
):
    """MPO: weigh samples of the policy by their values, then fit the policy to them inside a trust region.

    Discrete actions need no samples and have neither scale nor box: `samples`, `sigma`, `epsilon_scale`, `epsilon_box`
    are not used, and `trust_region` is always coupled.
    """

    num_critics: fields.NumCritics = 1
    beta: fields.Pessimism = 0.0
    target: fields.CriticTarget = "retrace"
    epsilon_mean: fields.EpsilonMean = 2.5e-3
    epsilon_scale: fields.EpsilonScale = 1e-6
    trust_region: fields.TrustRegion = "per-dimension"
    act_with: fields.ActWith = "prior"
    act_beta: fields.ActPessimism = None

    def __post_init__(self) -> None:
        groups.validate_with_inference(self)
        if self.target == "retrace" and self.act_with == "posterior":
            raise UsageError(
                "Retrace needs the density of the actions taken, and weighted particles have none.",
                "Give --target n-step or td0, or --act-with prior.",
            )

        if self.act_beta is not None and self.act_with == "prior":
            what = "--act-beta is about inference to act, and --act-with prior acts without inference."
            raise UsageError(what, "Leave out --act-beta, or give --act-with posterior.")

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment."""
        k_p, k_q = jax.random.split(key)
        spec = unsquashed(spec)
        optimiser, dual = adam(self.learning_rate), bounded_adam(self.dual_learning_rate, *LOG_ALPHA_BOUNDS)
        prior = policy_network(spec, policy_body(self), self.sigma, key=k_p)
        region = weighted_region(self, spec, prior, *TRUST_REGIONS[self.trust_region])
        return Agent(
            prior=learn(prior, optimiser, tau=self.tau, every=self.target_period),
            posterior=boltzmann(spec, self.samples),
            inference=fixed(closed_form(spec, self.samples)),
            likelihood=learn(q_critic(self, spec, k_q), optimiser, tau=self.tau, every=self.target_period),
            temperature=learn(KLConstraint(jnp.asarray(math.log(10.0)), self.epsilon), dual),
            projection=learn(region, dual),
            spec=spec,
            e_step=ClimbFraction(self.inference_fraction),
            bootstrap=prior_value,
            behave=BEHAVE[self.act_with],
            infers=self.act_with == "posterior",
            target_samples=self.samples,
            training_critic=Maximised(self.infer_on, self.pessimism),
            acting_critic=Maximised(self.infer_on, self.pessimism, self.act_beta),
            project=trust_region.project,
            remember=log_prob_memo if self.target == "retrace" else None,
            length=1 if self.target == "td0" else self.unroll,
        )
