"""Distral: several tasks distil one prior, and it guides all of them (Teh et al. 2017, arXiv:1707.04175).

prior        shared, tempered      p_0(a|s)^share, share = c_KL/(c_KL + c_Ent); p_0 does not see the task
posterior    tanh-Gaussian         q_i(u; λ) of task i, a = tanh u; over discrete actions p_0^share exp(Q̂_i/α)/Z
inference    direct, two columns   q_i ∝ p̄_0^share exp(f_φ(a; s, i)); over discrete actions f = Q̂/α, in closed form
likelihood   twin Q, TD(0)         Q̂(s,a) = min_k Q_k(s,a),   y = r + γ V̄(s'), of the slow prior
temperature  constant              α = c_KL + c_Ent, the paper's 1/β
m-step       distillation          max_θ E_s E_q log p_0(a|s), over the states of all tasks

V(s) = E_q[Q̂] - c_KL KL(q‖p_0) + c_Ent H(q). With --kl-cost 0 the tasks are independent, under a flat prior; with
--entropy-cost 0 there is the KL alone. Entropies are of the action a, not of u.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax

from estep.algorithms.checks import check_combinations, check_tasks
from estep.algorithms.sac import SAC
from estep.algorithms.several_tasks.parts import check_prices, heads_of, policies_of, price_of, shared_prior
from estep.algorithms.shared import like
from estep.core.agent import Agent, fit_prior
from estep.core.learned import fixed, learn
from estep.core.optim import adam
from estep.core.types import Key, Spec
from estep.likelihoods.q_function import q_of
from estep.m_steps.distil import Distil
from estep.priors.tempered import FitBase
from estep.settings import fields, groups, part_fields
from estep.settings.kinds import named_options


@named_options
@dataclass(frozen=True)
class Distral(part_fields.SharedPrior, groups.InferOn, groups.QInference, groups.QEnsemble, groups.Learner):
    """A soft critic and a policy for each task, and a prior that all of them share, distilled from the policies."""

    tau: fields.Tau = 0.005
    sigma: fields.Sigma = 0.7
    policies: part_fields.Policies = "two-column"
    samples: fields.Samples = 1

    def __post_init__(self) -> None:
        check_prices(self)

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent. Raises UsageError where there is one task, or the prior is to see what there is not."""
        check_tasks("distral", spec)
        check_combinations("distral", spec, "Use vmpo or mpo, which sample them.")
        k_p, k_pi, k_agent = jax.random.split(key, 3)
        prior, optimiser = shared_prior(self, spec, k_p), adam(self.learning_rate)
        return replace(
            like(SAC, self).init(spec, k_agent),
            prior=learn(prior, optimiser, tau=self.tau),
            inference=learn(policies_of(self, spec, prior, k_pi), optimiser),
            likelihood=learn(q_of(self, spec, heads=heads_of(self, spec), key=k_agent), optimiser, tau=self.tau),
            temperature=fixed(price_of(self)),
            projection=fixed(Distil()),
            samples=self.samples,
            project=FitBase(fit_prior),
        )
