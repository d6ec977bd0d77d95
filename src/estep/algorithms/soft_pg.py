"""Policy gradients and soft Q-learning, which are the same (Schulman, Chen & Abbeel 2017, arXiv:1704.06440).

prior        uniform               p(a|s), a fixed reference: 2^-d on the box, 1/n over choices
posterior    tanh-Gaussian         q(u; λ), a = tanh u; categorical over discrete actions
inference    direct, on-policy     λ = f_φ(s), by the score of the actions taken
likelihood   V, λ-returns          A_t = Σ_k (γλ)^k (δ_{t+k} - α KL_{t+k} [k > 0]),   δ = r + γ V(s') - V(s)
temperature  constant              α
m-step       none                  the prior is constant

As soft Q-learning, Q(s,a) = V(s) + α log q(a|s)/p(a|s) is regressed on the same returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from estep.core.acting import act_from_posterior
from estep.core.agent import Agent
from estep.core.bootstrap import posterior_value, sampled_posterior_value
from estep.core.learned import fixed, learn
from estep.core.optim import adam
from estep.core.types import Key, Spec
from estep.e_steps.actions_taken import ScoreFunction, policy_gradient, soft_q_learning
from estep.errors import check
from estep.families.choose import family
from estep.inference.direct import Direct
from estep.likelihoods.state_value import state_value
from estep.m_steps.projection import Keep
from estep.m_steps.temperature import Constant
from estep.priors.network import LOG_SIGMA, policy_network
from estep.priors.uniform import Uniform
from estep.settings.fields import check_rollout

FORMS = {
    "policy-gradient": (policy_gradient, posterior_value),
    "soft-q": (soft_q_learning, sampled_posterior_value),
}


@dataclass(frozen=True)
class SoftPG:
    """KL-regularised advantage actor-critic, or soft Q-learning on the same returns."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of every network."""
    learning_rate: float = 3e-4
    """Adam's step size, for the policy."""
    critic_learning_rate: float = 1e-3
    """Adam's step size, for the critic: one that lags behind leaves advantages that are all of one sign, and noise."""
    discount: float = 0.99
    """γ, per environment step."""
    alpha: float = 0.01
    """α, the price of a nat of KL(q‖p), in units of reward."""
    lam: float = 0.95
    """λ of the returns (1: Monte-Carlo within an unroll, 0: one step)."""
    unroll: int = 16
    """Steps in a row over which returns are taken; the value closes what is cut off."""
    rollout: int = 256
    """Steps, of all environments together, that are learned from once and then dropped."""
    samples: int = 4
    """Draws for the KL where it has no closed form."""
    sigma: float = 0.7
    """Standard deviation of u in the fresh policy (discrete actions: not used)."""
    form: Literal["policy-gradient", "soft-q"] = "policy-gradient"
    """Climb by the score of the actions, or regress the Q that the policy stands for."""

    def __post_init__(self) -> None:
        check_rollout(self)
        rate = self.critic_learning_rate
        check("critic_learning_rate", 0 < rate < 1, rate, "between 0 and 1")
        check("alpha", 0 < self.alpha < 1e3, self.alpha, "above 0 and below 1000")
        check("samples", self.samples >= 1, self.samples, "at least 1")
        check("form", self.form in FORMS, self.form, f"one of {', '.join(FORMS)}")

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment."""
        k_pi, k_v = jax.random.split(key)
        optimiser, critic_optimiser = adam(self.learning_rate), adam(self.critic_learning_rate)
        network = Direct(policy_network(spec, self.hidden, self.sigma, key=k_pi).net, *LOG_SIGMA)
        pointwise, bootstrap = FORMS[self.form]
        return Agent(
            prior=fixed(Uniform(spec)),
            posterior=family(spec),
            inference=learn(network, optimiser),
            likelihood=learn(state_value(spec, self.hidden, self.discount, self.lam, key=k_v), critic_optimiser),
            temperature=fixed(Constant(jnp.asarray(self.alpha))),
            projection=fixed(Keep()),
            spec=spec,
            e_step=ScoreFunction(pointwise),
            bootstrap=bootstrap,
            behave=act_from_posterior,
            samples=self.samples,
            target_samples=self.samples,
            length=self.unroll,
            rollout=self.rollout,
        )
