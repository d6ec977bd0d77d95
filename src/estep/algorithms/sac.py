"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905).

prior        flat                  p(a|s) ∝ 1, so that -KL(q‖p) = H(q)
posterior    tanh-Gaussian         q(u; λ), λ = (μ, log σ), a = tanh u
inference    direct amortised      λ = f_φ(s)                                       (eq. 9)
likelihood   twin Q, TD(0)         Q̂(s,a) = min_k Q_k(s,a),   y = r + γ V̄(s')       (eq. 5)
temperature  learned               H(q) ≥ -d                                         (eq. 18)
m-step       α                     the prior is constant

Over discrete actions the posterior is categorical: V, its gradient and the critic's target are sums over all of them
(Christodoulou 2019, arXiv:1910.07207), and H(q) ≥ c log n. Several choices at once may have 256 combinations.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax

from estep.algorithms.checks import check_combinations
from estep.core.acting import act_from_posterior
from estep.core.agent import Agent
from estep.core.bootstrap import posterior_value
from estep.core.learned import fixed, learn
from estep.core.optim import adam, bounded_adam
from estep.core.types import Key, Spec
from estep.e_steps.climb import ClimbFraction
from estep.families.choose import family
from estep.inference.direct import Direct
from estep.likelihoods.maximised import Maximised
from estep.likelihoods.q_function import q_of
from estep.m_steps.projection import Keep
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS, least_entropy
from estep.nets import network, policy_body
from estep.priors.flat import Flat
from estep.settings import fields, groups
from estep.settings.kinds import named_options


@named_options
@dataclass(frozen=True)
class SAC(groups.EntropyBound, groups.InferOn, groups.QInference, groups.QEnsemble, groups.Learner):
    """Soft actor-critic: direct amortised inference under a flat prior (maximum entropy)."""

    tau: fields.Tau = 0.005

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment. Raises UsageError where it has too many combinations of choices."""
        check_combinations("sac", spec)
        k_pi, k_q = jax.random.split(key)
        optimiser, dual = adam(self.learning_rate), bounded_adam(self.learning_rate, *LOG_ALPHA_BOUNDS)
        posterior = family(spec)
        net = network((spec.obs_dim,), sum(posterior.block_sizes), policy_body(self), key=k_pi)
        return Agent(
            prior=fixed(Flat(spec)),
            posterior=posterior,
            inference=learn(Direct(net), optimiser),
            likelihood=learn(q_of(self, spec, key=k_q), optimiser, tau=self.tau),
            temperature=learn(least_entropy(spec, self.entropy, self.entropy_fraction, self.alpha_per_task), dual),
            projection=fixed(Keep()),
            spec=spec,
            e_step=ClimbFraction(self.inference_fraction),
            bootstrap=posterior_value,
            behave=act_from_posterior,
            training_critic=Maximised(self.infer_on, self.pessimism),
            acting_critic=Maximised(self.infer_on, self.pessimism),
        )
