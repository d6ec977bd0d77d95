"""Relative entropy regularised policy iteration (Abdolmaleki et al. 2018, arXiv:1812.02256).

prior        learned, slow copy    p_θ(a|s) = N(μ_θ(s), Σ_θ(s)), the policy itself; Σ diagonal or full
posterior    Boltzmann             q(a|s) = Σ_i w_i δ(a - a_i), a_i ~ p̄(·|s)
inference    closed form           w_i = softmax_i(Q̄(s,a_i)/η), or by rank: w_i ∝ log((n + c)/rank_i)
likelihood   Q, TD(0)              y = r + γ E_p̄ Q̄(s',a'), the plain return of p̄
temperature  η, learned            E_s KL(q‖p̄) ≤ ε, by the dual; ranks need none
m-step       trust region          max_θ E_q log p_θ, KL of mean and of covariance to p̄ bounded each

The Gaussian is over the action itself: actions are clipped to the box, and a second objective keeps them inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from estep.algorithms.checks import check_weights, continuous
from estep.constraints import trust_region
from estep.constraints.dual import inside_box
from estep.constraints.temperature import LOG_ALPHA_BOUNDS, Constant, KLConstraint
from estep.core import em, policy, value
from estep.core.agent import Agent
from estep.core.learned import fixed, learn
from estep.core.optim import adam, bounded_adam
from estep.core.protocols import Prior
from estep.core.types import Clip, Key, Spec, unsquashed
from estep.distributions.boltzmann import Rank, exponential
from estep.errors import check
from estep.inference.closed_form import ClosedForm
from estep.likelihoods.q_function import MeanMinusStd, q_function
from estep.posteriors.boltzmann import Boltzmann
from estep.priors.network import full_gaussian_network, gaussian_network

WEIGHTS = ("exponential", "rank")
FAMILIES: dict[str, tuple[Callable[..., Prior], trust_region.Measure]] = {
    "diagonal": (gaussian_network, trust_region.joint),
    "full": (full_gaussian_network, trust_region.joint_full),
}


@dataclass(frozen=True)
class RERPI:
    """MPO in three steps: evaluate, weigh by value or by rank, fit mean and covariance each in its trust region."""

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
    samples: int = 20
    """n, draws of the slow policy in a state, for the weights and for the critic's target."""
    sigma: float = 0.7
    """Standard deviation of the fresh policy; the action box is [-1, 1]."""
    covariance: Literal["diagonal", "full"] = "diagonal"
    """Whether the policy correlates dimensions of the action."""
    weights: Literal["exponential", "rank"] = "exponential"
    """How values become weights."""
    rank_shift: float = 1.0
    """c of the rank weights: the larger, the more equal they are."""
    epsilon: float = 0.1
    """Bound of KL(q‖p̄), in nats (exponential weights)."""
    epsilon_mean: float = 5e-4
    """Bound of the KL by which the mean moves."""
    epsilon_scale: float = 1e-5
    """Bound of the KL by which the covariance moves."""
    epsilon_box: float = 1e-3
    """Bound of the KL of the second objective, the distance to the action box (0: without it)."""

    def __post_init__(self) -> None:
        check_weights(self)
        check("covariance", self.covariance in FAMILIES, self.covariance, f"one of {', '.join(FAMILIES)}")
        check("weights", self.weights in WEIGHTS, self.weights, f"one of {', '.join(WEIGHTS)}")
        enough = f"above 1 - samples, {1 - self.samples}, and below 1e6"
        check("rank_shift", 1 - self.samples < self.rank_shift < 1e6, self.rank_shift, enough)

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment. Raises UsageError where actions are discrete."""
        k_p, k_q = jax.random.split(key)
        spec = unsquashed(continuous("rerpi", spec))
        optimiser, dual = adam(self.learning_rate), bounded_adam(self.dual_learning_rate, *LOG_ALPHA_BOUNDS)
        family, measure = FAMILIES[self.covariance]
        prior = family(spec, self.hidden, self.sigma, key=k_p)
        critic = q_function(self.critics, spec, self.hidden, MeanMinusStd(self.beta), self.discount, key=k_q)
        box = inside_box(self.epsilon_box, 10.0) if self.epsilon_box and isinstance(spec.squash, Clip) else None
        example = prior(jnp.zeros(spec.observation))
        bounds = (self.epsilon_mean, 10.0), (self.epsilon_scale, 1000.0)
        ranks = self.weights == "rank"
        eta = KLConstraint(jnp.asarray(math.log(10.0)), self.epsilon)
        return Agent(
            prior=learn(prior, optimiser, tau=self.tau, every=self.every),
            posterior=Boltzmann(spec.action, self.samples),
            inference=fixed(ClosedForm(self.samples, Rank(self.rank_shift) if ranks else exponential)),
            likelihood=learn(critic, optimiser, tau=self.tau, every=self.every),
            temperature=fixed(Constant(jnp.zeros(()))) if ranks else learn(eta, dual),
            projection=learn(trust_region.trust_region(example, bounds, box, measure=measure), dual),
            spec=spec,
            e_step=em.per_state_slow,
            bootstrap=value.of_prior,
            behave=policy.of_prior,
            target_samples=self.samples,
            project=trust_region.fit,
        )
