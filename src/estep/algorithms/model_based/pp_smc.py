"""Planning from a learned prior, MPO over several imagined steps (estep, cf. Macfarlane et al. 2024).

prior        learned, slow copy    p_θ(a|s), the policy itself, from which plans draw their actions
posterior    weighted particles    q(a|s) = Σ_i W_i δ(a - a_i), N first actions a_i ~ p̄(·|s)
inference    SMC                   h imagined steps, a_t ~ p̄, Δ_t = (r + γ V̄(s_t+1) - V̄(s_t))/η
likelihood   Q and a model         y = r + γ E_p̄ Q̄(s',a'), the plain return of p̄;   members of (s,a) → (s', r, end)
temperature  η, learned            E_s KL(softmax(Â/η)‖equal) ≤ ε, by the dual; Â of the roots
m-step       trust region          max_θ Σ_i W_i log p_θ(a_i|s), KL of mean and of scale to p̄ bounded each

Each step is taken by a search. The M-step fits the prior to new searches in a fraction of the batch's states, or with
--search-fraction 0 to those of its steps, which replay then stores. With h = 1 it is the E-step of MPO on
Q = E[r + γ V̄(s')]. With --kl-in-value, α is fixed and values are the soft values under p̄, as the stored search found
them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import jax.numpy as jnp

from estep.algorithms.checks import check_plans
from estep.algorithms.model_based.model import beside, planner
from estep.algorithms.mpo import MPO
from estep.algorithms.shared import like
from estep.core.acting import act_from_prior
from estep.core.agent import Agent
from estep.core.learned import fixed
from estep.core.types import Key, Spec
from estep.e_steps.plans import log_mean_exp, report
from estep.e_steps.searches import SearchFraction, StoreSearch, searched_value, stored_search
from estep.m_steps.temperature import Constant
from estep.settings import fields, groups, part_fields
from estep.settings.kinds import Help, named_options


@named_options
@dataclass(frozen=True)
class PPSMC(
    part_fields.Plans,
    groups.WorldModel,
    groups.WeightedSamples,
    groups.LearnedPolicy,
    groups.SlowCopies,
    groups.QInference,
    groups.QEnsemble,
    groups.Learner,
):
    """MPO whose weights come from plans: searches in a learned model with the slow policy as proposal.

    Discrete actions have neither scale nor box: `sigma`, `epsilon_scale`, `epsilon_box` are not used, and
    `trust_region` is always coupled.
    """

    particles: part_fields.PlanParticles = 16
    horizon: part_fields.PlanHorizon = 4
    plan_members: part_fields.PlanMembers = 1
    search_fraction: part_fields.SearchFraction = 0.25
    num_critics: fields.NumCritics = 1
    beta: fields.Pessimism = 0.0
    target: fields.CriticTarget = "td0"
    epsilon_mean: fields.EpsilonMean = 2.5e-3
    epsilon_scale: fields.EpsilonScale = 1e-6
    trust_region: fields.TrustRegion = "per-dimension"
    kl_in_value: part_fields.KLInValue = False
    alpha: Annotated[fields.Alpha, Help("With --kl-in-value only; else the temperature is learned.")] = 0.1

    def __post_init__(self) -> None:
        check_plans(self)

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment."""
        mpo = like(MPO, self).init(spec, key)
        plan = planner(self, self.horizon, proposal=act_from_prior)
        agent = replace(
            beside(mpo, self, key),
            behave=plan,
            e_step=SearchFraction(self.search_fraction) if self.search_fraction else stored_search,
            remember=report if self.search_fraction and not self.kl_in_value else StoreSearch(self.particles),
        )
        if not self.kl_in_value:
            return agent
        return replace(
            agent,
            temperature=fixed(Constant(jnp.asarray(self.alpha))),
            behave=replace(
                planner(self, self.horizon, proposal=act_from_prior), value=log_mean_exp, value_samples=self.samples
            ),
            bootstrap=searched_value,
            length=self.unroll,
        )
