"""Relative entropy regularised policy iteration (Abdolmaleki et al. 2018, arXiv:1812.02256).

prior        learned, slow copy    p_θ(a|s) = N(μ_θ(s), Σ_θ(s)), the policy itself; Σ diagonal or full
posterior    Boltzmann             q(a|s) = Σ_i w_i δ(a - a_i), a_i ~ p̄(·|s)
inference    closed form           w_i = softmax_i(Q̄(s,a_i)/η), or by rank: w_i ∝ log((n + c)/rank_i)
likelihood   Q, TD(0)              y = r + γ E_p̄ Q̄(s',a'), the plain return of p̄; or n-step, or Retrace
temperature  η, learned            E_s KL(q‖p̄) ≤ ε, by the dual; ranks need none
m-step       trust region          max_θ E_q log p_θ, KL of mean and of covariance to p̄ bounded each

The Gaussian is over the action itself: actions are clipped to the box, and a second objective keeps them inside.
Over discrete actions p and q are categorical, q and both expectations are exact, and one KL is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from estep.algorithms.shared import q_critic, weighed_region
from estep.core.acting import act_from_prior, log_prob_memo
from estep.core.agent import Agent, no_memo
from estep.core.bootstrap import prior_value
from estep.core.learned import fixed, learn
from estep.core.optim import adam, bounded_adam
from estep.core.slots import Prior
from estep.core.types import Key, Spec, unsquashed
from estep.e_steps.climb import climb_each_state_slow
from estep.errors import check
from estep.families.choose import boltzmann
from estep.families.particles import Rank, exponential
from estep.inference.closed_form import closed_form
from estep.m_steps import trust_region
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS, Constant, KLConstraint
from estep.priors.network import full_gaussian_network, policy_network
from estep.settings.fields import check_choices, check_ranks, check_target, check_weights

WEIGHTS = ("exponential", "rank")
FAMILIES: dict[str, tuple[Callable[..., Prior], trust_region.Measure]] = {
    "diagonal": (policy_network, trust_region.joint),
    "full": (full_gaussian_network, trust_region.joint_full),
}


@dataclass(frozen=True)
class RERPI:
    """MPO in three steps: evaluate, weigh by value or by rank, fit mean and covariance each in its trust region.

    Discrete actions need no samples and have neither scale nor box: `samples`, `sigma`, `epsilon_scale` and
    `epsilon_box` are not used.
    """

    hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of every network."""
    learning_rate: float = 3e-4
    """Adam's step size, for policy and critic."""
    dual_learning_rate: float = 1e-2
    """Adam's step size for the logarithm of every multiplier."""
    discount: float = 0.99
    """γ, per environment step."""
    every: int = 100
    """Updates from one move of the slow policy and critic to the next."""
    tau: float = 1.0
    """Step of the slow copies at each move (1: hard copies)."""
    critics: int = 1
    """Members of the critic ensemble."""
    beta: float = 0.0
    """Pessimism: Q̂ = mean - β·std over the ensemble (biased std: 1 is the minimum of two)."""
    target: Literal["td0", "n-step", "retrace"] = "td0"
    """What the critic is regressed on: returns of one step, or over an unroll, as they are or corrected for the policy
    that took it."""
    unroll: int = 5
    """Steps in a row that replay gives for a return (td0: one)."""
    samples: int = 20
    """n, draws of the slow policy in a state, for the weights and for the critic's target."""
    sigma: float = 0.7
    """Standard deviation of the fresh policy; the action box is [-1, 1]."""
    covariance: Literal["diagonal", "full"] = "diagonal"
    """Whether the policy correlates dimensions of the action (discrete actions: diagonal, and not used)."""
    weights: Literal["exponential", "rank"] = "exponential"
    """How values become weights (discrete actions: exponential alone)."""
    rank_shift: float = 1.0
    """c of the rank weights: the larger, the more equal they are."""
    epsilon: float = 0.1
    """Bound of KL(q‖p̄), in nats (exponential weights)."""
    epsilon_mean: float = 5e-4
    """Bound of the KL by which the mean moves (discrete actions: of the whole KL)."""
    epsilon_scale: float = 1e-5
    """Bound of the KL by which the covariance moves."""
    epsilon_box: float = 1e-3
    """Bound of the KL of the second objective, the distance to the action box (0: without it)."""

    def __post_init__(self) -> None:
        check_weights(self)
        check_target(self)
        check("covariance", self.covariance in FAMILIES, self.covariance, f"one of {', '.join(FAMILIES)}")
        check("weights", self.weights in WEIGHTS, self.weights, f"one of {', '.join(WEIGHTS)}")
        check_ranks(self)

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment. Raises UsageError where it has no form for discrete actions."""
        check_choices(self, spec)
        k_p, k_q = jax.random.split(key)
        spec = unsquashed(spec)
        optimiser, dual = adam(self.learning_rate), bounded_adam(self.dual_learning_rate, *LOG_ALPHA_BOUNDS)
        family, measure = FAMILIES[self.covariance]
        prior = family(spec, self.hidden, self.sigma, key=k_p)
        region = weighed_region(self, spec, prior, trust_region.decoupled, measure)
        ranks = self.weights == "rank"
        eta = KLConstraint(jnp.asarray(math.log(10.0)), self.epsilon)
        return Agent(
            prior=learn(prior, optimiser, tau=self.tau, every=self.every),
            posterior=boltzmann(spec, self.samples),
            inference=fixed(closed_form(spec, self.samples, Rank(self.rank_shift) if ranks else exponential)),
            likelihood=learn(q_critic(self, spec, k_q), optimiser, tau=self.tau, every=self.every),
            temperature=fixed(Constant(jnp.zeros(()))) if ranks else learn(eta, dual),
            projection=learn(region, dual),
            spec=spec,
            e_step=climb_each_state_slow,
            bootstrap=prior_value,
            behave=act_from_prior,
            target_samples=self.samples,
            project=trust_region.project,
            remember=log_prob_memo if self.target == "retrace" else no_memo,
            length=1 if self.target == "td0" else self.unroll,
        )
