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

import jax
import jax.numpy as jnp

from estep.core.acting import act_from_posterior
from estep.core.agent import Agent
from estep.core.bootstrap import posterior_value, sampled_posterior_value
from estep.core.learned import fixed, learn
from estep.core.optim import adam
from estep.core.types import Key, Spec
from estep.e_steps.actions_taken import ScoreFunction, policy_gradient, soft_q_learning
from estep.families.choose import family
from estep.inference.direct import Direct
from estep.likelihoods.state_value import state_value
from estep.m_steps.projection import Keep
from estep.m_steps.temperature import Constant
from estep.nets import Body
from estep.priors.network import LOG_SIGMA, policy_network
from estep.priors.uniform import Uniform
from estep.settings import fields, groups
from estep.settings.kinds import check_order, named_options, validate

LOSSES = {
    "policy-gradient": (policy_gradient, posterior_value),
    "soft-q": (soft_q_learning, sampled_posterior_value),
}


@named_options
@dataclass(frozen=True)
class SoftPG(groups.FreshData, groups.Learner):
    """KL-regularised advantage actor-critic, or soft Q-learning on the same returns."""

    critic_learning_rate: fields.CriticLearningRate = 1e-3
    alpha: fields.Alpha = 0.01
    unroll: fields.Unroll = 16
    rollout: fields.Rollout = 256
    samples: fields.Samples = 4
    sigma: fields.Sigma = 0.7
    loss: fields.PolicyLoss = "policy-gradient"

    def __post_init__(self) -> None:
        validate(self)
        check_order(self, "unroll", "rollout")

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment."""
        k_pi, k_v = jax.random.split(key)
        body = Body(self.hidden_sizes, self.features)
        optimiser, critic_optimiser = adam(self.learning_rate), adam(self.critic_learning_rate)
        network = Direct(policy_network(spec, body, self.sigma, key=k_pi).net, *LOG_SIGMA)
        pointwise, bootstrap = LOSSES[self.loss]
        return Agent(
            prior=fixed(Uniform(spec)),
            posterior=family(spec),
            inference=learn(network, optimiser),
            likelihood=learn(state_value(spec, body, self.gamma, self.gae_lambda, key=k_v), critic_optimiser),
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
