"""Soft actor-critic that acts by plans (SMC planning, Piché et al. 2019).

prior        flat                  p(a|s) ∝ 1, so that -KL(q‖p) = H(q)
posterior    weighted particles    q(a|s) ∝ π(a|s) exp(κ Σ_t Δ_t), N first actions of π; learning sees π alone
inference    SMC                   h imagined steps, a_t ~ π, Δ_t = (r + γ V(s_t+1) - V(s_t))/α - log π/p
likelihood   twin Q and a model    Q̂(s,a) = min_k Q_k(s,a),   y = r + γ V̄(s');   members of (s,a) → (s', r, end)
temperature  learned               H(π) ≥ -d
m-step       α                     the prior is constant

The critic, the policy π and α learn as in `sac`, from the steps that plans take. V(s) = E_π[Q̂ - α log π/p]. All
particles of a step have the same luck. A plan that is not finite is replaced by the policy's action.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from estep.algorithms.model_based.model import beside, planner
from estep.algorithms.sac import SAC
from estep.algorithms.shared import like
from estep.core.agent import Agent
from estep.core.types import Key, Spec
from estep.e_steps.plans import WithPlans, report
from estep.settings import fields, groups, part_fields
from estep.settings.kinds import named_options


@named_options
@dataclass(frozen=True)
class SMCP(
    part_fields.Plans,
    groups.WorldModel,
    groups.EntropyBound,
    groups.InferOn,
    groups.QInference,
    groups.QEnsemble,
    groups.Learner,
):
    """SAC that acts by plans: sequential Monte Carlo in a learned model, with its policy as proposal."""

    tau: fields.Tau = 0.005
    horizon: part_fields.PlanHorizon = 3
    power: part_fields.PlanPower = 1.0

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment. Raises UsageError where it has too many combinations of choices."""
        sac = like(SAC, self).init(spec, key)
        return replace(
            beside(sac, self, key),
            behave=planner(self, self.horizon, self.power),
            e_step=WithPlans(sac.e_step),
            remember=report,
        )
