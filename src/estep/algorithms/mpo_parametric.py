"""MPO with a parametric E-step (Abdolmaleki et al. 2018, arXiv:1806.06920).

prior        previous policy       p(a|s) = π_old(a|s), the posterior of up to T updates ago
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

from estep.core.acting import act_from_prior
from estep.core.agent import Agent
from estep.core.bootstrap import prior_value
from estep.core.learned import fixed, learn
from estep.core.optim import adam, bounded_adam
from estep.core.types import Key, Spec
from estep.e_steps.climb import climb_each_state
from estep.errors import check
from estep.families.choose import family
from estep.inference.direct import Direct
from estep.likelihoods.q_function import MeanMinusStd, q_function
from estep.m_steps.projection import FOLLOW, Keep, copy_posterior
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS, KLConstraint
from estep.priors.network import LOG_SIGMA, policy_network
from estep.settings.fields import check_policy


@dataclass(frozen=True)
class ParametricMPO:
    """MPO whose E-step climbs the value with a network, under a bound on the KL to the policy of a while ago."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of every network."""
    learning_rate: float = 3e-4
    """Adam's step size, for policy and critic."""
    dual_learning_rate: float = 3e-3
    """Adam's step size for log η. At 1e-2 a KL that is too large for a while can wind η up until nothing is learned."""
    discount: float = 0.99
    """γ, per environment step."""
    every: int = 100
    """T, updates from one copy of the policy and of the critic to the next."""
    critics: int = 2
    """Members of the critic ensemble."""
    beta: float = 1.0
    """Pessimism: Q̂ = mean - β·std over the ensemble (biased std: 1 is the minimum of two)."""
    samples: int = 4
    """Draws of the posterior in a state."""
    target_samples: int = 4
    """Draws of the previous policy in the critic's target."""
    sigma: float = 0.7
    """Standard deviation of u in the fresh policy (discrete actions: not used)."""
    epsilon: float = 0.1
    """Bound of KL(q‖π_old), in nats."""

    def __post_init__(self) -> None:
        check_policy(self)
        check("target_samples", self.target_samples >= 1, self.target_samples, "at least 1")

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment."""
        k_pi, k_q = jax.random.split(key)
        optimiser = adam(self.learning_rate)
        previous = policy_network(spec, self.hidden, self.sigma, key=k_pi)
        network = Direct(jax.tree.map(jnp.copy, previous.net), *LOG_SIGMA)
        critic = q_function(self.critics, spec, self.hidden, MeanMinusStd(self.beta), self.discount, key=k_q)
        return Agent(
            prior=learn(previous, FOLLOW, tau=1.0, every=self.every),
            posterior=family(spec),
            inference=learn(network, optimiser),
            likelihood=learn(critic, optimiser, tau=1.0, every=self.every),
            temperature=learn(
                KLConstraint(jnp.asarray(math.log(10.0)), self.epsilon),
                bounded_adam(self.dual_learning_rate, *LOG_ALPHA_BOUNDS),
            ),
            projection=fixed(Keep()),
            spec=spec,
            e_step=climb_each_state,
            bootstrap=prior_value,
            behave=act_from_prior,
            samples=self.samples,
            target_samples=self.target_samples,
            project=copy_posterior,
        )
