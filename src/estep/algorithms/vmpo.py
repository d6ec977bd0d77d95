"""V-MPO, on-policy maximum a posteriori policy optimisation (Song et al. 2019, arXiv:1909.12238).

prior        learned, slow copy    p_θ(a|s), the policy itself; its slow copy took the actions
posterior    Boltzmann, batch      ψ(s,a) ∝ exp(A(s,a)/η) over the better half of the batch's steps
inference    closed form           ψ_t = softmax_t(A_t/η)
likelihood   V, λ-returns          A_t = Σ_k (γλ)^k δ_{t+k},   δ = r + γ V(s') - V(s)
temperature  η, learned            KL(ψ‖equal weights) ≤ ε, by the dual
m-step       trust region          max_θ Σ_t ψ_t log p_θ(a_t|s_t), KL to p̄ bounded over the whole batch

Continuous actions are squashed by a tanh; the KLs of mean and scale are bounded each. Discrete actions have one KL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from estep.algorithms.mpo import FORMS
from estep.core.acting import act_from_prior
from estep.core.agent import Agent
from estep.core.bootstrap import prior_value
from estep.core.learned import fixed, learn
from estep.core.optim import adam, bounded_adam
from estep.core.types import Key, Spec
from estep.e_steps.actions_taken import BatchWeights
from estep.errors import check
from estep.families.choose import family
from estep.inference.starts import AtPrior
from estep.likelihoods.state_value import state_value
from estep.m_steps import trust_region
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS, KLConstraint
from estep.priors.network import policy_network
from estep.settings.fields import check_rollout


@dataclass(frozen=True)
class VMPO:
    """V-MPO: weigh the actions that were taken by their advantages, then fit the policy inside a trust region."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of every network."""
    learning_rate: float = 3e-4
    """Adam's step size, for policy and critic."""
    dual_learning_rate: float = 1e-2
    """Adam's step size for the logarithm of every multiplier."""
    discount: float = 0.99
    """γ, per environment step."""
    lam: float = 0.95
    """λ of the returns (1: Monte-Carlo within an unroll, 0: one step)."""
    unroll: int = 32
    """Steps in a row over which returns are taken; the value closes what is cut off."""
    rollout: int = 2048
    """Steps, of all environments together, that are learned from and then dropped."""
    epochs: int = 8
    """Passes over a rollout."""
    every: int = 20
    """T, updates from one copy of the policy to the one that acts to the next."""
    top: float = 0.5
    """Part of a batch's steps, those of greatest advantage, that the policy is fitted to."""
    sigma: float = 0.7
    """Standard deviation of u in the fresh policy (discrete actions: not used)."""
    epsilon: float = 0.1
    """Bound of KL(ψ‖equal), in nats."""
    epsilon_mean: float = 5e-3
    """Bound of the KL by which the mean moves (discrete actions, coupled: of the whole KL)."""
    epsilon_scale: float = 5e-5
    """Bound of the KL by which the scale moves (discrete actions, coupled: not used)."""
    trust_region: Literal["joint", "per-dimension", "coupled"] = "joint"
    """Bound mean and scale summed over dimensions, per action dimension, or together in one KL."""

    def __post_init__(self) -> None:
        check_rollout(self)
        for name in ("dual_learning_rate", "epsilon", "epsilon_mean", "epsilon_scale"):
            check(name, 0 < getattr(self, name) < 10, getattr(self, name), "between 0 and 10")
        check("top", 0 < self.top <= 1, self.top, "above 0 and at most 1")
        check("epochs", self.epochs >= 1, self.epochs, "at least 1")
        check("every", self.every >= 1, self.every, "at least 1")
        check("trust_region", self.trust_region in FORMS, self.trust_region, f"one of {', '.join(FORMS)}")

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment."""
        k_p, k_v = jax.random.split(key)
        optimiser, dual = adam(self.learning_rate), bounded_adam(self.dual_learning_rate, *LOG_ALPHA_BOUNDS)
        prior = policy_network(spec, self.hidden, self.sigma, key=k_p)
        example = prior(jnp.zeros(spec.observation))
        form = trust_region.form_for(example, *FORMS[self.trust_region])
        bounds = (self.epsilon_mean, 1.0), (self.epsilon_scale, 1.0)
        return Agent(
            prior=learn(prior, optimiser, tau=1.0, every=self.every),
            posterior=family(spec),
            inference=fixed(AtPrior()),
            likelihood=learn(state_value(spec, self.hidden, self.discount, self.lam, key=k_v), optimiser),
            temperature=learn(KLConstraint(jnp.asarray(math.log(1.0)), self.epsilon), dual),
            projection=learn(trust_region.trust_region(example, bounds, None, *form), dual),
            spec=spec,
            e_step=BatchWeights(self.top),
            bootstrap=prior_value,
            behave=act_from_prior,
            project=trust_region.project,
            length=self.unroll,
            rollout=self.rollout,
            epochs=self.epochs,
        )
