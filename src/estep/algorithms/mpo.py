"""Maximum a posteriori policy optimisation (Abdolmaleki et al. 2018, arXiv:1806.06920).

prior        learned, slow copy    p_θ(a|s) = N(μ_θ(s), diag σ_θ(s)²), the policy itself
posterior    Boltzmann             q(a|s) ∝ p̄(a|s) exp(Q̄(s,a)/η), n weighted draws of p̄
inference    closed form           w_i = softmax_i(Q̄(s,a_i)/η)
likelihood   Q, Retrace            y of p̄'s plain return, corrected for who acted; or n-step, or TD(0)
temperature  η, learned            E_s KL(q‖p̄) ≤ ε, by the dual
m-step       trust region          max_θ E_q log p_θ, KL of mean and of scale to p̄ bounded each

The Gaussian is over the action itself: actions are clipped to the box, and a second objective keeps them inside.
Over discrete actions p and q are categorical, q and both expectations are exact, and one KL is bounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from estep.algorithms.shared import q_critic, weighed_region
from estep.core.acting import act_from_prior, act_from_slow_posterior, log_prob_memo
from estep.core.agent import Agent, no_memo
from estep.core.bootstrap import prior_value
from estep.core.learned import fixed, learn
from estep.core.optim import adam, bounded_adam
from estep.core.types import Key, Spec, unsquashed
from estep.e_steps.climb import climb_each_state_slow
from estep.errors import check
from estep.families.choose import boltzmann
from estep.inference.closed_form import closed_form
from estep.m_steps import trust_region
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS, KLConstraint
from estep.priors.network import policy_network
from estep.settings.fields import check_behaviour, check_target, check_weights

FORMS = {
    "per-dimension": (trust_region.decoupled, trust_region.per_dimension),
    "joint": (trust_region.decoupled, trust_region.joint),
    "coupled": (trust_region.coupled, trust_region.joint),
}
BEHAVE = {"prior": act_from_prior, "posterior": act_from_slow_posterior}


@dataclass(frozen=True)
class MPO:
    """MPO: weigh samples of the policy by their values, then fit the policy to them inside a trust region.

    Discrete actions need no samples and have neither scale nor box: `samples`, `sigma`, `epsilon_scale`, `epsilon_box`
    are not used, and `trust_region` is always coupled.
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
    target: Literal["retrace", "n-step", "td0"] = "retrace"
    """What the critic is regressed on: returns over an unroll, corrected for the policy that took it or as they are, or
    of one step."""
    unroll: int = 5
    """Steps in a row that replay gives for a return (td0: one)."""
    samples: int = 20
    """n, draws of the slow policy in a state, for the weights and for the critic's target."""
    sigma: float = 0.7
    """Standard deviation of the fresh policy; the action box is [-1, 1]."""
    epsilon: float = 0.1
    """Bound of KL(q‖p̄), in nats."""
    epsilon_mean: float = 2.5e-3
    """Bound of the KL by which the mean moves (coupled, or discrete actions: of the whole KL)."""
    epsilon_scale: float = 1e-6
    """Bound of the KL by which the scale moves (coupled: not used)."""
    trust_region: Literal["per-dimension", "joint", "coupled"] = "per-dimension"
    """Bound mean and scale per action dimension, summed over dimensions, or together in one KL (the first form)."""
    epsilon_box: float = 1e-3
    """Bound of the KL of the second objective, the distance to the action box (0: without it)."""
    act_with: Literal["prior", "posterior"] = "prior"
    """Act from the slow policy, or resample its draws by the weights of the E-step."""

    def __post_init__(self) -> None:
        check_weights(self)
        check("trust_region", self.trust_region in FORMS, self.trust_region, f"one of {', '.join(FORMS)}")
        check("act_with", self.act_with in BEHAVE, self.act_with, f"one of {', '.join(BEHAVE)}")
        check_target(self)
        check_behaviour(self)

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment."""
        k_p, k_q = jax.random.split(key)
        spec = unsquashed(spec)
        optimiser, dual = adam(self.learning_rate), bounded_adam(self.dual_learning_rate, *LOG_ALPHA_BOUNDS)
        prior = policy_network(spec, self.hidden, self.sigma, key=k_p)
        region = weighed_region(self, spec, prior, *FORMS[self.trust_region])
        return Agent(
            prior=learn(prior, optimiser, tau=self.tau, every=self.every),
            posterior=boltzmann(spec, self.samples),
            inference=fixed(closed_form(spec, self.samples)),
            likelihood=learn(q_critic(self, spec, k_q), optimiser, tau=self.tau, every=self.every),
            temperature=learn(KLConstraint(jnp.asarray(math.log(10.0)), self.epsilon), dual),
            projection=learn(region, dual),
            spec=spec,
            e_step=climb_each_state_slow,
            bootstrap=prior_value,
            behave=BEHAVE[self.act_with],
            target_samples=self.samples,
            project=trust_region.project,
            remember=log_prob_memo if self.target == "retrace" else no_memo,
            length=1 if self.target == "td0" else self.unroll,
        )
