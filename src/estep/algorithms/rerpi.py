"""Relative entropy regularised policy iteration (Abdolmaleki et al. 2018, arXiv:1812.02256).

prior        learned, slow copy    p_θ(a|s) = N(μ_θ(s), Σ_θ(s)), the policy itself; Σ diagonal or full
posterior    Boltzmann             q(a|s) = Σ_i w_i δ(a - a_i), a_i ~ p̄(·|s)
inference    closed form           w_i = softmax_i(Q̄(s,a_i)/η), or by rank: w_i ∝ log((n + c)/rank_i)
likelihood   Q, TD(0)              y = r + γ E_p̄ Q̄(s',a'), the plain return of p̄; or n-step, or Retrace
temperature  η, learned            E_s KL(q‖p̄) ≤ ε, by the dual; ranks need none
m-step       trust region          max_θ E_q log p_θ, KL of mean and of covariance to p̄ bounded each

The Gaussian is over the action itself: actions are clipped to the box, and a second objective keeps them inside.
Over discrete actions p and q are categorical, q and both expectations are exact, and one KL is bounded. Over several
choices at once p is a product, and q has weighted samples of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from estep.algorithms.checks import check_choices
from estep.algorithms.shared import q_critic, weighted_region
from estep.core.acting import act_from_prior, log_prob_memo
from estep.core.agent import Agent
from estep.core.bootstrap import prior_value
from estep.core.learned import fixed, learn
from estep.core.optim import adam, bounded_adam
from estep.core.slots import Prior
from estep.core.types import Key, Spec, unsquashed
from estep.e_steps.climb import ClimbFraction
from estep.families.choose import boltzmann
from estep.families.particles import Rank, exponential
from estep.inference.closed_form import closed_form
from estep.likelihoods.maximised import Maximised
from estep.m_steps import trust_region
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS, Constant, KLConstraint
from estep.nets import policy_body
from estep.priors.network import full_gaussian_network, policy_network
from estep.settings import fields, groups
from estep.settings.kinds import named_options, refused

FAMILIES: dict[str, tuple[Callable[..., Prior], trust_region.Measure]] = {
    "diagonal": (policy_network, trust_region.joint),
    "full": (full_gaussian_network, trust_region.joint_full),
}


@named_options
@dataclass(frozen=True)
class RERPI(
    groups.WeightedSamples, groups.LearnedPolicy, groups.SlowCopies, groups.QInference, groups.QEnsemble, groups.Learner
):
    """MPO in three steps: evaluate, weigh by value or by rank, fit mean and covariance each in its trust region.

    Discrete actions need no samples and have neither scale nor box: `samples`, `sigma`, `epsilon_scale` and
    `epsilon_box` are not used.
    """

    num_critics: fields.NumCritics = 1
    beta: fields.Pessimism = 0.0
    target: fields.CriticTarget = "td0"
    covariance: fields.Covariance = "diagonal"
    weights: fields.Weights = "exponential"
    rank_shift: fields.RankShift = 1.0
    epsilon_mean: fields.EpsilonMean = 5e-4
    epsilon_scale: fields.EpsilonScale = 1e-5

    def __post_init__(self) -> None:
        groups.validate_with_inference(self)
        if self.rank_shift <= 1 - self.samples:
            raise refused("rank_shift", self.rank_shift, f"above 1 - samples, {1 - self.samples}")

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment. Raises UsageError where it has no form for discrete actions."""
        check_choices(self, spec)
        k_p, k_q = jax.random.split(key)
        spec = unsquashed(spec)
        optimiser, dual = adam(self.learning_rate), bounded_adam(self.dual_learning_rate, *LOG_ALPHA_BOUNDS)
        family, measure = FAMILIES[self.covariance]
        prior = family(spec, policy_body(self), self.sigma, key=k_p)
        region = weighted_region(self, spec, prior, trust_region.decoupled, measure)
        ranks = self.weights == "rank"
        eta = KLConstraint(jnp.asarray(math.log(10.0)), self.epsilon)
        return Agent(
            prior=learn(prior, optimiser, tau=self.tau, every=self.target_period),
            posterior=boltzmann(spec, self.samples),
            inference=fixed(closed_form(spec, self.samples, Rank(self.rank_shift) if ranks else exponential)),
            likelihood=learn(q_critic(self, spec, k_q), optimiser, tau=self.tau, every=self.target_period),
            temperature=fixed(Constant(jnp.zeros(()))) if ranks else learn(eta, dual),
            projection=learn(region, dual),
            spec=spec,
            e_step=ClimbFraction(self.inference_fraction),
            bootstrap=prior_value,
            behave=act_from_prior,
            infers=False,
            target_samples=self.samples,
            training_critic=Maximised(self.infer_on, self.pessimism),
            acting_critic=Maximised(self.infer_on, self.pessimism),
            project=trust_region.project,
            remember=log_prob_memo if self.target == "retrace" else None,
            length=1 if self.target == "td0" else self.unroll,
        )
