"""Any valid combination of parts (estep).

prior        as named              flat, uniform, gaussian or learned
posterior    as named              gaussian, full-gaussian, mixture, autoregressive, boltzmann or categorical
inference    as named              direct, iterative, gradient, semi-amortised, cem, importance, closed-form or
                                   advantages; from the prior, or from where another network ends
likelihood   as named              an ensemble of Q (one step, n steps or Retrace), with or without imagined steps,
                                   or V of fresh data
temperature  learned               KL(q‖p) ≤ ε
m-step       α, trust region       a learned prior is fitted to q, not far from its slow copy

What does not fit together is refused with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from estep.algorithms.compose import parts, rules
from estep.core.acting import act_from_posterior, act_from_prior, log_prob_memo
from estep.core.agent import Agent, fit_prior
from estep.core.bootstrap import posterior_value, prior_value
from estep.core.learned import learn
from estep.core.optim import adam, bounded_adam
from estep.core.types import Key, Spec
from estep.e_steps.actions_taken import BatchWeights
from estep.e_steps.climb import ClimbFraction
from estep.m_steps import trust_region
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS
from estep.settings import fields, part_fields
from estep.settings.groups import Acting, FreshData, Imagined, Learner, QEnsemble, QInference, SlowCopies, WorldModel
from estep.settings.kinds import named_options


@named_options
@dataclass(frozen=True)
class Compose(part_fields.Plans, FreshData, Imagined, WorldModel, Acting, SlowCopies, QInference, QEnsemble, Learner):
    """Your own row: a prior, a posterior, a likelihood and an inference optimiser, by name."""

    prior: part_fields.Prior = "flat"
    posterior: part_fields.Posterior = "gaussian"
    inference: part_fields.Inference = "direct"
    start: part_fields.Start = "prior"
    likelihood: part_fields.Likelihood = "q"
    target: fields.CriticTarget = "td0"
    kl_in_value: part_fields.KLInValue = True
    act_with: part_fields.ActWithOrPlan = "posterior"
    plan_horizon: part_fields.PlanHorizon = 3
    power: part_fields.PlanPower = 1.0
    infer_on: part_fields.InferOnOrDefault = "auto"
    tau: fields.Tau = 0.005
    target_period: fields.TargetPeriod = 1
    unroll: fields.Unroll = 5
    epochs: fields.Epochs = 8
    iterations: fields.Iterations = 5
    samples: fields.Samples = 4
    num_candidates: part_fields.NumCandidates = 64
    components: fields.NumComponents = 4
    sigma: fields.Sigma = 0.7
    epsilon: part_fields.EpsilonOrDefault = 0.0
    epsilon_mean: fields.EpsilonMean = 5e-3
    epsilon_scale: fields.EpsilonScale = 5e-5

    def __post_init__(self) -> None:
        rules.check_settings(self)

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment. Raises UsageError where the parts do not fit it."""
        rules.check_environment(self, spec)
        k_p, k_q, k_pi = jax.random.split(key, 3)
        tx, dual = adam(self.learning_rate), bounded_adam(self.learning_rate, *LOG_ALPHA_BOUNDS)
        fresh = self.likelihood == "state-value"
        slow: dict[str, Any] = {"tau": self.tau, "every": self.target_period}
        prior, family = parts.prior(self, spec, k_p), parts.posterior(self, spec)
        inference, learns = parts.inference(self, spec, family, k_pi), parts.has_parameters(prior, self.prior)
        plain = fresh or not self.kl_in_value
        training_critic, acting_critic = parts.critics(self, plain)
        agent = Agent(
            prior=parts.learned_if(learns, prior, tx, **slow),
            posterior=family,
            inference=parts.learned_if(parts.has_parameters(inference), inference, tx),
            likelihood=learn(parts.likelihood(self, spec, k_q), tx, **({} if fresh else slow)),
            temperature=learn(parts.temperature(self, spec), dual),
            projection=parts.learned_if(learns, parts.region(self, prior, spec), dual),
            spec=spec,
            e_step=BatchWeights() if fresh else ClimbFraction(self.inference_fraction),
            bootstrap=prior_value if plain else posterior_value,
            behave=act_from_prior if self.act_with == "prior" else act_from_posterior,
            infers=self.act_with == "posterior",
            samples=self.samples,
            target_samples=self.samples,
            acting=parts.acting(self, inference),
            training_critic=training_critic,
            acting_critic=acting_critic,
            project=trust_region.project if learns else fit_prior,
            remember=log_prob_memo if self.target == "retrace" else None,
            length=self.unroll if fresh or self.target != "td0" else 1,
            rollout=self.rollout if fresh else 0,
            epochs=self.epochs,
        )
        return parts.with_model_and_plans(self, agent, k_q)
