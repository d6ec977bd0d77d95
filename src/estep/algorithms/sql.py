"""Soft Q-learning with an amortised sampler (Haarnoja et al. 2017, arXiv:1702.08165).

prior        uniform               p(a|s) = 2^-d on the action box
posterior    implicit              samples a = tanh h_φ(s, ξ), ξ ~ N(0, I), without a density
inference    amortised SVGD        φ ascends ⟨Δ, h_φ⟩, Δ the Stein direction of p exp(Q̂/α) over u     (eq. 13, 14)
likelihood   Q, TD(0)              y = r + γ V̄(s'),   V̄ = α log mean_k exp(Q̄(s',a_k)/α), a_k ~ p      (eq. 10, 11)
temperature  constant              α, one over the published reward scale
m-step       none                  prior and α are constant

Deterministic action: of n samples of the sampler, the one of greatest Q̂.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from estep.algorithms.checks import continuous
from estep.core.acting import act_from_posterior
from estep.core.agent import Agent
from estep.core.bootstrap import log_mean_exp_value
from estep.core.learned import fixed, learn
from estep.core.optim import adam
from estep.core.types import Key, Spec
from estep.e_steps.stein import stein_e_step
from estep.families.sampler import Implicit
from estep.inference import stein
from estep.inference.stein import near_sampler_value
from estep.likelihoods.q_function import q_of
from estep.m_steps.projection import Keep
from estep.m_steps.temperature import Constant
from estep.nets import network, policy_body, small_init
from estep.priors.uniform import Uniform
from estep.settings import fields, groups
from estep.settings.kinds import named_options

PROPOSALS = {"uniform": log_mean_exp_value, "sampler": near_sampler_value}


@named_options
@dataclass(frozen=True)
class SQL(groups.SlowCopies, groups.QEnsemble, groups.Learner):
    """Soft Q-learning: the posterior of the critic itself, with all its modes, by a sampler trained with SVGD."""

    hidden_sizes: fields.HiddenSizes = (128, 128)
    num_critics: fields.NumCritics = 1
    beta: fields.Pessimism = 0.0
    target_period: fields.TargetPeriod = 1000
    alpha: fields.Alpha = 0.03
    """It is one over the reward scale of the paper, there mostly 30."""
    particles: fields.Particles = 16
    target_samples: fields.TargetSamples = 16
    proposal: fields.Proposal = "uniform"

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment. Raises UsageError where actions are discrete."""
        k_pi, k_q = jax.random.split(key)
        spec = continuous("sql", spec)
        optimiser = adam(self.learning_rate)
        inputs, body = (spec.obs_dim, spec.action_dim), policy_body(self)
        sampler = network(inputs, spec.action_dim, body, key=k_pi, head=small_init)
        return Agent(
            prior=fixed(Uniform(spec)),
            posterior=Implicit(spec.action_dim, self.particles),
            inference=learn(stein.Stein(sampler, spec.action_dim, self.particles), optimiser),
            likelihood=learn(q_of(self, spec, key=k_q), optimiser, tau=self.tau, every=self.target_period),
            temperature=fixed(Constant(jnp.asarray(self.alpha))),
            projection=fixed(Keep()),
            spec=spec,
            e_step=stein_e_step,
            bootstrap=PROPOSALS[self.proposal],
            behave=act_from_posterior,
            target_samples=self.target_samples,
        )
