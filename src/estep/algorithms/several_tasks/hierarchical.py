"""Policies of two levels and a prior of two levels (Tirumala et al. 2019, arXiv:1903.07438).

prior        latent, two levels    p(z|x) = N(0, I), an AR(1) process or learned; p(u|z,x); x does not see the task
posterior    tanh-Gaussians        q(u) = ∫ q(z|s) q(u|z,x) dz, the mixture over n samples of z, a = tanh u
inference    direct, two levels    q(z|s) of one network, q(u|z,x) of another, on the slow critic
likelihood   twin Q, Retrace       y of q̄, corrected for who acted, V̄ = E_q̄[Q̄] - c_KL KL_levels + c_Ent H(q̄)
temperature  constant              α = c_KL + c_Ent
m-step       KL of both levels     min_θ E_s KL_levels; nothing where p(z|x) is fixed and the lower level is shared

KL_levels = KL(q(z|s)‖p(z|x)) + E_q KL(q(u|z)‖p(u|z)) is an upper bound of KL(q(u|s)‖p(u|x)). The lower level does not
see the task and is that of policies and prior, so its KL is 0: what it learns serves every task, and with --freeze-low
a new one.
"""

from __future__ import annotations

import functools as ft
from dataclasses import dataclass, replace

import jax

from estep.algorithms.checks import check_levels, check_one_choice, check_tasks
from estep.algorithms.sac import SAC
from estep.algorithms.several_tasks.parts import check_prices, heads_of, level_prior, price_of, two_stage
from estep.algorithms.shared import like, q_critic
from estep.core.agent import Agent, fit_prior
from estep.core.learned import fixed, learn
from estep.core.optim import adam
from estep.core.types import Key, Spec
from estep.e_steps.levels import ClimbLevels, latent_memo, value_of_levels
from estep.families.choose import family
from estep.families.levels import Levels
from estep.inference.levels import one_sample
from estep.priors.levels import fit_levels
from estep.settings import fields, groups, part_fields
from estep.settings.kinds import named_options


@named_options
@dataclass(frozen=True)
class Hierarchical(
    part_fields.SharedPrior,
    groups.SlowCopies,
    groups.InferOn,
    groups.QInference,
    groups.QEnsemble,
    groups.Learner,
):
    """Policies of two levels: a latent that sees the task, and a lower level that all tasks share."""

    target: fields.CriticTarget = "retrace"
    unroll: fields.Unroll = 5
    samples: fields.Samples = 4
    infer_on: fields.InferOn = "slow"
    sigma: fields.Sigma = 0.7
    latent: part_fields.Latent = 4
    latent_prior: part_fields.LatentPrior = "normal"
    rho: part_fields.Rho = 0.0
    low_level: part_fields.LowLevel = "shared"
    freeze_low: part_fields.FreezeLow = ""

    def __post_init__(self) -> None:
        check_prices(self)
        check_levels(self)

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent. Raises UsageError where there is one task, or the prior is to see what there is not."""
        if not self.freeze_low:
            check_tasks("hierarchical", spec)
        check_one_choice("hierarchical", spec)
        k_p, k_pi, k_agent = jax.random.split(key, 3)
        slow = ft.partial(learn, tx=adam(self.learning_rate), tau=self.tau, every=self.target_period)
        prior, learns = level_prior(self, spec, k_p), self.latent_prior == "learned" or self.low_level == "own"
        return replace(
            like(SAC, self).init(spec, k_agent),
            prior=slow(prior) if learns else fixed(prior),
            posterior=Levels(self.latent, family(spec), self.samples),
            inference=slow(two_stage(self, spec, k_pi)),
            likelihood=slow(q_critic(self, spec, k_agent, heads_of(self, spec))),
            temperature=fixed(price_of(self)),
            e_step=ClimbLevels(self.inference_fraction),
            bootstrap=value_of_levels,
            samples=self.samples,
            target_samples=self.samples,
            acting=one_sample,
            project=fit_levels if learns else fit_prior,
            remember=latent_memo,
            length=1 if self.target == "td0" else self.unroll,
        )
