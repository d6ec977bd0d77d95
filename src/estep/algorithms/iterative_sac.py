"""Soft actor-critic with iterative amortised inference (Marino, Piché, Yue; Marino et al. 2021, arXiv:2010.10670).

prior        flat                  p(a|s) ∝ 1, so that -KL(q‖p) = H(q)
posterior    tanh-Gaussian         q(u; λ), λ = (μ, log σ), a = tanh u
inference    iterative amortised   λ ← ω λ + (1-ω) f_φ(s, λ, ∇_λ V), N times, from where the last visit left λ
likelihood   twin Q, TD(0)         Q̂(s,a) = mean_k Q_k - β std_k Q_k,   y = r + γ V̄(s')
temperature  learned               H(q) ≥ -d
m-step       α                     the prior is constant

Over discrete actions the posterior is categorical: the gradient that the network is fed is exact, and
H(q) ≥ c log n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax

from estep.core.acting import act_from_posterior
from estep.core.agent import Agent, no_memo
from estep.core.bootstrap import posterior_value
from estep.core.learned import fixed, learn
from estep.core.optim import adam, bounded_adam
from estep.core.types import Key, Spec
from estep.e_steps.chain import Chain, empty_memo, stored_bootstrap
from estep.e_steps.climb import ClimbFraction
from estep.errors import check
from estep.families.choose import family
from estep.families.noise import antithetic, independent
from estep.inference.direct import Direct
from estep.inference.iterative import Iterations, iterative, layer_norm, log_sign, raw
from estep.likelihoods.q_function import MeanMinusStd, q_function
from estep.m_steps.projection import Keep
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS, least_entropy
from estep.nets import mlp
from estep.priors.flat import Flat
from estep.settings.fields import check_common, check_iterations

ENCODINGS = {"log_sign": log_sign, "layer_norm": layer_norm, "none": raw}


@dataclass(frozen=True)
class IterativeSAC:
    """Soft actor-critic whose policy is refined, state by state, by a network fed the gradient of its own objective."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of every network."""
    learning_rate: float = 3e-4
    """Adam's step size, for every component."""
    discount: float = 0.99
    """γ, per environment step."""
    tau: float = 0.005
    """Step of the slow critic towards the critic at each update."""
    critics: int = 2
    """Members of the critic ensemble."""
    beta: float = 3.54
    """Pessimism: Q̂ = mean - β·std over the ensemble (biased std: 1 is the minimum of two; the authors' 2.5 is 3.54)."""
    entropy: float = -1.0
    """Least entropy of the posterior, in nats per action dimension, of continuous actions."""
    entropy_fraction: float = 0.3
    """Least entropy of the posterior over n discrete actions, as a fraction of log n. 0.98, as in the paper of discrete
    SAC, is nearly chance; 0.3 takes one of two actions 19 times in 20."""
    iterations: int = 2
    """N, inference iterations in training: with persist, at each visit of a step."""
    samples: int = 2
    """Draws of the posterior in each iteration's objective."""
    pairs: bool = True
    """Draw antithetic pairs: one pair does what ten independent draws do."""
    grad_encoding: Literal["log_sign", "layer_norm", "none"] = "log_sign"
    """How the network reads the gradient (layer_norm is the authors')."""
    direct_start: bool = True
    """Start from a direct network, trained on the same objective, instead of a fixed place."""
    persist: bool = True
    """Keep λ(s) and λ(s') with every step in replay and go on from there at its next visit."""
    restart: float = 0.5
    """With --persist, the chance that a state starts afresh instead."""
    part: float = 0.5
    """Of a batch's rows, those whose states train the inference network; the critic learns from all."""
    act_iterations: int = 0
    """Iterations when acting (0: as in training). More of them come nearer to the optimum of V, and on critics that
    have not converged they earn less."""
    act_samples: int = 10
    """Draws in each iteration when acting (0: as in training)."""
    act_average: int = 1
    """Act on the mean of this many of the last iterates."""
    target_iterations: int = 0
    """Iterations at the next state in the critic's target (0: as in training)."""
    target_samples: int = 0
    """Draws at the next state in the critic's target (0: as in training)."""

    def __post_init__(self) -> None:
        check_common(self)
        check("grad_encoding", self.grad_encoding in ENCODINGS, self.grad_encoding, f"one of {', '.join(ENCODINGS)}")
        check_iterations(self)

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment."""
        k_pi, k_q, k_start = jax.random.split(key, 3)
        optimiser = adam(self.learning_rate)
        posterior = family(spec, antithetic if self.pairs else independent)
        training = Iterations(self.iterations, self.samples)
        acting = Iterations(self.act_iterations or self.iterations, self.act_samples or self.samples, self.act_average)
        targeting = Iterations(self.target_iterations or self.iterations, self.target_samples or self.samples)
        head = mlp((spec.observation,), sum(posterior.parts), self.hidden, key=k_start)
        encoding, start = ENCODINGS[self.grad_encoding], Direct(head) if self.direct_start else None
        net = iterative(spec.observation, posterior, self.hidden, training, encoding, start, key=k_pi)
        critic = q_function(self.critics, spec, self.hidden, MeanMinusStd(self.beta), self.discount, key=k_q)
        return Agent(
            prior=fixed(Flat(spec)),
            posterior=posterior,
            inference=learn(net, optimiser),
            likelihood=learn(critic, optimiser, tau=self.tau),
            temperature=learn(
                least_entropy(spec, self.entropy, self.entropy_fraction),
                bounded_adam(self.learning_rate, *LOG_ALPHA_BOUNDS),
            ),
            projection=fixed(Keep()),
            spec=spec,
            e_step=Chain(self.restart, self.part) if self.persist else ClimbFraction(self.part),
            bootstrap=stored_bootstrap if self.persist else posterior_value,
            behave=act_from_posterior,
            remember=empty_memo if self.persist else no_memo,
            samples=training.samples,
            target_samples=targeting.samples,
            acting=acting,
            targeting=targeting,
        )
