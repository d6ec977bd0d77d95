"""MPO with a parametric E-step (Abdolmaleki et al. 2018, arXiv:1806.06920).

prior        previous policy       p(a|s) = π_old(a|s), the posterior of up to T updates before
posterior    tanh-Gaussian         q(u; λ), λ = (μ, log σ), a = tanh u
inference    direct amortised      λ = f_φ(s)
likelihood   twin Q, TD(0)         Q̂(s,a) = min_k Q_k(s,a),   y = r + γ E_p Q̄(s',a'), the plain return of π_old
temperature  η, learned            E_s KL(q‖π_old) ≤ ε
m-step       copy                  π_old ← q every T updates

The gradient of E_q Q̂ is reparameterised (the paper's is a likelihood ratio), so the policy is squashed: where actions
are clipped the critic has no slope. Over discrete actions the policy is categorical and the gradient exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from estep.algorithms.checks import check_combinations
from estep.core.acting import act_from_prior
from estep.core.agent import Agent
from estep.core.bootstrap import prior_value
from estep.core.learned import fixed, learn
from estep.core.optim import FOLLOW, adam, bounded_adam
from estep.core.types import Key, Spec
from estep.e_steps.climb import ClimbFraction
from estep.families.choose import family
from estep.inference.direct import Direct
from estep.likelihoods.maximised import Maximised
from estep.likelihoods.q_function import q_of
from estep.m_steps.projection import Keep, copy_posterior
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS, KLConstraint
from estep.nets import policy_body
from estep.priors.network import LOG_SIGMA, policy_network
from estep.settings import fields, groups
from estep.settings.kinds import named_options


@named_options
@dataclass(frozen=True)
class ParametricMPO(groups.LearnedPolicy, groups.InferOn, groups.QInference, groups.QEnsemble, groups.Learner):
    """MPO whose E-step maximises the value with a network, under a bound of the KL to an earlier policy."""

    dual_learning_rate: fields.DualLearningRate = 3e-3
    """At 1e-2 a KL that is too large for a while can raise η until nothing is learned."""
    target_period: fields.TargetPeriod = 100
    samples: fields.Samples = 4
    target_samples: fields.TargetSamples = 4

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment. Raises UsageError where it has too many combinations of choices."""
        check_combinations("mpo-parametric", spec)
        k_pi, k_q = jax.random.split(key)
        optimiser = adam(self.learning_rate)
        previous = policy_network(spec, policy_body(self), self.sigma, key=k_pi)
        network = Direct(jax.tree.map(jnp.copy, previous.net), *LOG_SIGMA)
        return Agent(
            prior=learn(previous, FOLLOW, tau=1.0, every=self.target_period),
            posterior=family(spec),
            inference=learn(network, optimiser),
            likelihood=learn(q_of(self, spec, key=k_q), optimiser, tau=1.0, every=self.target_period),
            temperature=learn(
                KLConstraint(jnp.asarray(math.log(10.0)), self.epsilon),
                bounded_adam(self.dual_learning_rate, *LOG_ALPHA_BOUNDS),
            ),
            projection=fixed(Keep()),
            spec=spec,
            e_step=ClimbFraction(self.inference_fraction),
            bootstrap=prior_value,
            behave=act_from_prior,
            infers=False,
            acting_critic=Maximised(self.infer_on, self.pessimism),
            training_critic=Maximised(self.infer_on, self.pessimism),
            samples=self.samples,
            target_samples=self.target_samples,
            project=copy_posterior,
        )
