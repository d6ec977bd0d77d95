"""Soft actor-critic with iterative amortised inference (Marino, Piché, Yue; Marino et al. 2021, arXiv:2010.10670).

prior        flat                  p(a|s) ∝ 1, so that -KL(q‖p) = H(q)
posterior    tanh-Gaussian         q(u; λ), λ = (μ, log σ), a = tanh u
inference    iterative amortised   λ ← ω λ + (1-ω) f_φ(s, λ, ∇_λ V), N times, from the λ stored in replay
likelihood   twin Q, TD(0)         Q̂(s,a) = mean_k Q_k - β std_k Q_k,   y = r + γ V̄(s')
temperature  learned               H(q) ≥ -d
m-step       α                     the prior is constant

Over discrete actions the posterior is categorical: the gradient that the network is fed is exact, and
H(q) ≥ c log n.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax

from estep.algorithms.checks import check_acting, check_start
from estep.core.acting import act_from_posterior
from estep.core.agent import Agent
from estep.core.bootstrap import posterior_value
from estep.core.learned import fixed, learn
from estep.core.optim import adam, bounded_adam
from estep.core.types import Key, Spec
from estep.e_steps.chain import Chain, empty_memo, stored_bootstrap
from estep.e_steps.climb import ClimbFraction
from estep.families.choose import family
from estep.families.noise import antithetic, independent
from estep.inference.direct import Direct
from estep.inference.iterative import Iterations, iterative, layer_norm, log_sign, raw
from estep.inference.starts import start_of
from estep.likelihoods.maximised import Maximised
from estep.likelihoods.q_function import q_of
from estep.m_steps.projection import Keep
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS, least_entropy
from estep.nets import network, policy_body
from estep.priors.flat import Flat
from estep.settings import fields, groups
from estep.settings.kinds import named_options

ENCODINGS = {"log_sign": log_sign, "layer_norm": layer_norm, "none": raw}


@named_options
@dataclass(frozen=True)
class IterativeSAC(
    groups.IterativeInference,
    groups.Acting,
    groups.EntropyBound,
    groups.InferOn,
    groups.QInference,
    groups.QEnsemble,
    groups.Learner,
):
    """Soft actor-critic whose policy is refined, state by state, by a network fed the gradient of its own objective."""

    tau: fields.Tau = 0.005
    beta: fields.Pessimism = 3.54
    """The default is the authors': 2.5 in their units, the unbiased standard deviation of two."""

    def __post_init__(self) -> None:
        check_acting(self)

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment. Raises UsageError where inference does not fit its actions."""
        check_start("iterative-sac", self, spec)
        k_pi, k_q, k_start = jax.random.split(key, 3)
        body = policy_body(self)
        optimiser, dual = adam(self.learning_rate), bounded_adam(self.learning_rate, *LOG_ALPHA_BOUNDS)
        posterior = family(spec, antithetic if self.antithetic else independent)
        training, fraction = Iterations(self.iterations, self.samples), self.inference_fraction
        acting = Iterations(self.act_iterations or self.iterations, self.act_samples or self.samples, self.act_average)
        targeting = Iterations(self.target_iterations or self.iterations, self.target_samples or self.samples)
        head = network((spec.obs_dim,), sum(posterior.block_sizes), body, key=k_start)
        start, encoding = Direct(head) if self.direct_start else None, ENCODINGS[self.grad_encoding]
        net = iterative(spec.obs_dim, posterior, body, training, encoding, start, key=k_pi)
        return Agent(
            prior=fixed(Flat(spec)),
            posterior=posterior,
            inference=learn(net, optimiser),
            likelihood=learn(q_of(self, spec, key=k_q), optimiser, tau=self.tau),
            temperature=learn(least_entropy(spec, self.entropy, self.entropy_fraction, self.alpha_per_task), dual),
            projection=fixed(Keep()),
            spec=spec,
            e_step=Chain(self.restart_probability, fraction) if self.persist else ClimbFraction(fraction),
            bootstrap=stored_bootstrap if self.persist else posterior_value,
            behave=act_from_posterior,
            training_critic=Maximised(self.infer_on, self.pessimism),
            acting_critic=Maximised(self.infer_on, self.pessimism, self.act_beta),
            remember=empty_memo if self.persist else None,
            samples=training.samples,
            target_samples=targeting.samples,
            acting=start_of if self.act_by == "start" else acting,
            targeting=targeting,
        )
