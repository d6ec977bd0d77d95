"""Any valid combination of parts (estep).

prior        as named              flat, uniform, gaussian or learned
posterior    as named              gaussian, full-gaussian, mixture, autoregressive, boltzmann or categorical
inference    as named              direct, iterative, gradient, semi-amortised, cem, importance, closed-form or
                                   advantages; from the prior, or from where another network ends
likelihood   as named              an ensemble of Q (one step, n steps or Retrace), or V of fresh data
temperature  learned               KL(q‖p) ≤ ε
m-step       α, trust region       a learned prior is fitted to q, not far from its slow copy

What does not fit together is refused with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax

from estep.algorithms.compose.parts import (
    INFERENCES,
    POSTERIORS,
    PRIORS,
    critic,
    has_parameters,
    learned_if,
    region,
    temperature,
)
from estep.algorithms.compose.rules import check_environment, check_parts
from estep.core.acting import act_from_posterior, act_from_prior, log_prob_memo
from estep.core.agent import Agent, fit_prior, no_memo
from estep.core.bootstrap import posterior_value, prior_value
from estep.core.learned import learn
from estep.core.optim import adam, bounded_adam
from estep.core.types import Key, Spec
from estep.e_steps.actions_taken import BatchWeights
from estep.e_steps.climb import climb_each_state, climb_each_state_slow
from estep.m_steps import trust_region
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS
from estep.settings.fields import check_compose


@dataclass(frozen=True)
class Compose:
    """Your own row: a prior, a posterior, a likelihood and an inference optimiser, by name."""

    prior: Literal["flat", "uniform", "gaussian", "learned"] = "flat"
    """p(a|s): none to speak of, uniform, N(0, 1) of u, or a network fitted to the posterior."""
    posterior: Literal["gaussian", "full-gaussian", "mixture", "autoregressive", "boltzmann", "categorical"] = (
        "gaussian"
    )
    """q(a|s): a family over u (a = tanh u), weighted draws of the prior, or a distribution over choices."""
    inference: Literal[
        "direct", "iterative", "gradient", "semi-amortised", "cem", "importance", "closed-form", "advantages"
    ] = "direct"
    """How q is found; semi-amortised is gradient from a direct start."""
    start: Literal["prior", "direct", "iterative"] = "prior"
    """Where an optimiser that iterates starts: the prior where the family holds it, else a fixed place; or where a
    network ends, which is trained to climb there by itself."""
    likelihood: Literal["q", "state-value"] = "q"
    """What q is found on: action values of replay, or the advantages of fresh data."""
    target: Literal["td0", "n-step", "retrace"] = "td0"
    """What action values are regressed on."""
    kl_in_value: bool = True
    """Charge KL(q‖p) at every step of a return (regularised), or value the learned prior by its plain return."""
    act_with: Literal["posterior", "prior"] = "posterior"
    """Who acts."""
    hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of every network."""
    learning_rate: float = 3e-4
    """Adam's step size, for every component."""
    discount: float = 0.99
    """γ, per environment step."""
    tau: float = 0.005
    """Step of the slow copies at each move."""
    every: int = 1
    """Updates from one move of the slow copies to the next."""
    critics: int = 2
    """Members of the critic ensemble."""
    beta: float = 1.0
    """Pessimism: Q̂ = mean - β·std over the ensemble (biased std: 1 is the minimum of two)."""
    unroll: int = 5
    """Steps in a row of n-step, Retrace and fresh data."""
    lam: float = 0.95
    """λ of the returns of fresh data."""
    rollout: int = 2048
    """Steps of fresh data that are learned from and then dropped."""
    epochs: int = 8
    """Passes over fresh data."""
    iterations: int = 5
    """Of an optimiser that iterates."""
    samples: int = 4
    """Draws of q in each objective; particles."""
    population: int = 64
    """Draws in each iteration of cem and importance."""
    components: int = 4
    """Of a mixture."""
    sigma: float = 0.7
    """Standard deviation of u in a fresh learned prior."""
    epsilon: float = 0.0
    """Bound of KL(q‖p), in nats (0: d for a flat prior, d (1 + log 2) for a uniform one, an entropy of -1 nat per
    dimension; a third of log n is left over choices; 0.1 for the others)."""
    epsilon_mean: float = 5e-3
    """Bound of the KL by which the mean of a learned prior moves."""
    epsilon_scale: float = 5e-5
    """Bound of the KL by which its scale moves."""

    def __post_init__(self) -> None:
        check_compose(self)
        check_parts(self)

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment. Raises UsageError where the parts do not fit it."""
        check_environment(self, spec)
        k_p, k_q, k_pi = jax.random.split(key, 3)
        tx, dual = adam(self.learning_rate), bounded_adam(self.learning_rate, *LOG_ALPHA_BOUNDS)
        fresh, learns = self.likelihood == "state-value", self.prior == "learned"
        slow: dict[str, Any] = {"tau": self.tau, "every": self.every}
        prior, family = PRIORS[self.prior](self, spec, k_p), POSTERIORS[self.posterior](self, spec)
        inference = INFERENCES[self.inference](self, spec, family, k_pi)
        plain = fresh or not self.kl_in_value
        climb = climb_each_state_slow if plain else climb_each_state
        return Agent(
            prior=learned_if(learns, prior, tx, **slow),
            posterior=family,
            inference=learned_if(has_parameters(inference), inference, tx),
            likelihood=learn(critic(self, spec, k_q), tx, **({} if fresh else slow)),
            temperature=learn(temperature(self, spec), dual),
            projection=learned_if(learns, region(self, prior, spec), dual),
            spec=spec,
            e_step=BatchWeights() if fresh else climb,
            bootstrap=prior_value if plain else posterior_value,
            behave=act_from_prior if self.act_with == "prior" else act_from_posterior,
            samples=self.samples,
            target_samples=self.samples,
            project=trust_region.project if learns else fit_prior,
            remember=log_prob_memo if self.target == "retrace" else no_memo,
            length=self.unroll if fresh or self.target != "td0" else 1,
            rollout=self.rollout if fresh else 0,
            epochs=self.epochs,
        )
