"""Soft Q-learning with an amortised sampler (Haarnoja et al. 2017, arXiv:1702.08165).

prior        uniform               p(a|s) = 2^-d on the action box
posterior    implicit              draws a = tanh h_φ(s, ξ), ξ ~ N(0, I), without a density
inference    amortised SVGD        φ ascends ⟨Δ, h_φ⟩, Δ the Stein direction of p exp(Q̂/α) over u     (eq. 13, 14)
likelihood   Q, TD(0)              y = r + γ V̄(s'),   V̄ = α log mean_k exp(Q̄(s',a_k)/α), a_k ~ p      (eq. 10, 11)
temperature  constant              α, one over the published reward scale
m-step       none                  prior and α are constant

Deterministic action: of n draws of the sampler, the one of greatest Q̂.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from estep.core.acting import act_from_posterior
from estep.core.agent import Agent
from estep.core.bootstrap import log_mean_exp_value
from estep.core.learned import fixed, learn
from estep.core.optim import adam
from estep.core.types import Key, Spec
from estep.e_steps.stein import stein_e_step
from estep.errors import check
from estep.families.sampler import Implicit
from estep.inference import stein
from estep.inference.stein import near_sampler_value
from estep.likelihoods.q_function import MeanMinusStd, q_function
from estep.m_steps.projection import Keep
from estep.m_steps.temperature import Constant
from estep.nets import mlp
from estep.priors.network import small_init
from estep.priors.uniform import Uniform
from estep.settings.fields import check_sampler, continuous

PROPOSALS = {"uniform": log_mean_exp_value, "sampler": near_sampler_value}


@dataclass(frozen=True)
class SQL:
    """Soft Q-learning: the posterior of the critic itself, with all its modes, by a sampler trained with SVGD."""

    hidden: tuple[int, ...] = (128, 128)
    """Hidden layers of every network."""
    learning_rate: float = 3e-4
    """Adam's step size, for sampler and critic."""
    discount: float = 0.99
    """γ, per environment step."""
    every: int = 1000
    """Updates from one move of the slow critic to the next."""
    tau: float = 1.0
    """Step of the slow critic at each move (1: a hard copy)."""
    critics: int = 1
    """Members of the critic ensemble."""
    beta: float = 0.0
    """Pessimism: Q̂ = mean - β·std over the ensemble (biased std: 1 is the minimum of two)."""
    alpha: float = 0.03
    """α, the temperature, in units of reward: one over the reward scale of the paper (there 30, mostly)."""
    particles: int = 16
    """Draws of the sampler in a state, in training and to act; in training half of them stand still."""
    target_samples: int = 16
    """K, draws of the proposal in the soft value of the next state."""
    proposal: Literal["uniform", "sampler"] = "uniform"
    """Where those draws come from: the prior (as published), or half of them from the neighbourhood of the sampler."""

    def __post_init__(self) -> None:
        check_sampler(self)
        check("proposal", self.proposal in PROPOSALS, self.proposal, f"one of {', '.join(PROPOSALS)}")

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment. Raises UsageError where actions are discrete."""
        k_pi, k_q = jax.random.split(key)
        spec = continuous("sql", spec)
        optimiser = adam(self.learning_rate)
        sampler = mlp((spec.observation, spec.action), spec.action, self.hidden, key=k_pi, head=small_init)
        critic = q_function(self.critics, spec, self.hidden, MeanMinusStd(self.beta), self.discount, key=k_q)
        return Agent(
            prior=fixed(Uniform(spec)),
            posterior=Implicit(spec.action, self.particles),
            inference=learn(stein.Stein(sampler, spec.action, self.particles), optimiser),
            likelihood=learn(critic, optimiser, tau=self.tau, every=self.every),
            temperature=fixed(Constant(jnp.asarray(self.alpha))),
            projection=fixed(Keep()),
            spec=spec,
            e_step=stein_e_step,
            bootstrap=PROPOSALS[self.proposal],
            behave=act_from_posterior,
            target_samples=self.target_samples,
        )
