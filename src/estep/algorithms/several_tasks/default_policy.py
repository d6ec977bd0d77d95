"""A default policy that does not know the task (Galashov et al. 2019, arXiv:1905.01240).

prior        default, tempered     p(a|x)^share, share = c_KL/(c_KL + c_Ent); x is a part of the state, without the task
posterior    tanh-Gaussian         q(u; λ), λ = (μ, log σ), a = tanh u
inference    direct amortised      λ = f_φ(s), on the slow critic
likelihood   Q, Retrace            y of q̄, corrected for who acted, V̄ = E_q̄[Q̄] - c_KL KL(q̄‖p̄) + c_Ent H(q̄)
temperature  constant              α = c_KL + c_Ent
m-step       distillation          max_θ E_s E_q log p_θ(a|x), or in a trust region

Critic, prior and policy have slow copies, made every T updates; the target is of the slow ones alone. The prior is an
agent's habits: with --freeze-prior it is that of another run, and a new task is learned with it. The authors' public
code gives entropy a price in the policy alone (--entropy-in policy).
"""

from __future__ import annotations

import functools as ft
from dataclasses import dataclass, replace

import jax

from estep.algorithms.checks import check_combinations, check_tasks
from estep.algorithms.sac import SAC
from estep.algorithms.several_tasks.parts import (
    check_prices,
    direct_policy,
    heads_of,
    near_slow_copy,
    price_of,
    shared_prior,
    value_without_entropy,
)
from estep.algorithms.shared import like, q_critic
from estep.core.acting import log_prob_memo
from estep.core.agent import Agent, fit_prior
from estep.core.bootstrap import slow_posterior_value
from estep.core.learned import fixed, learn
from estep.core.optim import adam
from estep.core.types import Key, Spec
from estep.m_steps import trust_region
from estep.m_steps.distil import Distil
from estep.m_steps.projection import Keep
from estep.priors.tempered import FitBase
from estep.settings import fields, groups, part_fields
from estep.settings.kinds import named_options

BOOTSTRAPS = {"both": slow_posterior_value, "policy": value_without_entropy}


@named_options
@dataclass(frozen=True)
class DefaultPolicy(
    part_fields.SharedPrior,
    groups.SlowCopies,
    groups.InferOn,
    groups.QInference,
    groups.QEnsemble,
    groups.Learner,
):
    """Policies that stay near a prior which does not see the task, and which learns what they have in common."""

    num_critics: fields.NumCritics = 1
    beta: fields.Pessimism = 0.0
    target: fields.CriticTarget = "retrace"
    unroll: fields.Unroll = 5
    samples: fields.Samples = 4
    infer_on: fields.InferOn = "slow"
    sigma: fields.Sigma = 0.7
    entropy_in: part_fields.EntropyIn = "both"
    prior_fit: part_fields.PriorFit = "distil"
    dual_learning_rate: fields.DualLearningRate = 1e-2
    epsilon_mean: fields.EpsilonMean = 5e-3
    epsilon_scale: fields.EpsilonScale = 5e-5
    freeze_prior: part_fields.FreezePrior = ""

    def __post_init__(self) -> None:
        check_prices(self)

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent. Raises UsageError where there is one task, or the prior is to see what there is not."""
        if not self.freeze_prior:
            check_tasks("default-policy", spec)
        check_combinations("default-policy", spec, "Use vmpo or mpo, which sample them.")
        k_p, k_pi, k_agent = jax.random.split(key, 3)
        optimiser, prior = adam(self.learning_rate), shared_prior(self, spec, k_p)
        slow = ft.partial(learn, tx=optimiser, tau=self.tau, every=self.target_period)
        agent = replace(
            like(SAC, self).init(spec, k_agent),
            prior=slow(prior),
            inference=slow(direct_policy(self, spec, k_pi)),
            likelihood=slow(q_critic(self, spec, k_agent, heads_of(self, spec))),
            temperature=fixed(price_of(self)),
            projection=fixed(Distil()),
            bootstrap=BOOTSTRAPS[self.entropy_in],
            samples=self.samples,
            target_samples=self.samples,
            project=FitBase(fit_prior),
            remember=log_prob_memo if self.target == "retrace" else None,
            length=1 if self.target == "td0" else self.unroll,
        )
        if self.freeze_prior:
            return replace(agent, prior=fixed(prior), projection=fixed(Keep()), project=fit_prior)
        if self.prior_fit == "distil":
            return agent
        return replace(agent, projection=near_slow_copy(self, spec, prior), project=FitBase(trust_region.project))
