"""An algorithm of your own: soft actor-critic whose policy is a mixture of Gaussians.

An algorithm is a frozen dataclass of settings with one method, `init`, that puts the six parts of an agent together.
It trains, stops, resumes, evaluates and is inspected like those of the library:

    python own_algorithm.py
    estep train own_algorithm:MixtureSAC --env Pendulum-v1 --components 4 --steps 20000
    estep resume RUN --allow-import
"""

import sys
from dataclasses import dataclass

import jax

import estep
from estep.core import acting, bootstrap
from estep.core.learned import fixed, learn
from estep.core.optim import adam
from estep.e_steps.climb import climb_each_state
from estep.families.mixture import Mixture
from estep.inference.direct import Direct
from estep.likelihoods.q_function import MeanMinusStd, q_function
from estep.m_steps.projection import Keep
from estep.m_steps.temperature import least_entropy
from estep.nets import mlp
from estep.priors.flat import Flat
from estep.settings import fields
from estep.settings.kinds import validate


@dataclass(frozen=True)
class MixtureSAC:
    """Soft actor-critic with several modes: the posterior is a mixture of Gaussians."""

    hidden_sizes: fields.HiddenSizes = (64, 64)
    learning_rate: fields.LearningRate = 1e-3
    gamma: fields.Gamma = 0.99
    components: fields.NumComponents = 3
    entropy: float = -1.0
    """Lower bound of the policy's entropy, in nats per action dimension."""

    def __post_init__(self):
        validate(self)  # bounds and kinds of the settings above

    def init(self, spec, key):
        """A fresh agent for an environment."""
        k_pi, k_q = jax.random.split(key)
        posterior, tx = Mixture(spec.action_dim, self.components), adam(self.learning_rate)
        network = mlp((spec.obs_dim,), sum(posterior.block_sizes), self.hidden_sizes, key=k_pi)
        critic = q_function(2, spec, self.hidden_sizes, MeanMinusStd(1.0), self.gamma, key=k_q)
        return estep.Agent(
            prior=fixed(Flat(spec)),
            posterior=posterior,
            inference=learn(Direct(network), tx),
            likelihood=learn(critic, tx, tau=0.005),
            temperature=learn(least_entropy(spec, self.entropy, 0.3), tx),
            projection=fixed(Keep()),
            spec=spec,
            e_step=climb_each_state,
            bootstrap=bootstrap.posterior_value,
            behave=acting.act_from_posterior,
            samples=self.components,
            target_samples=self.components,
        )


if __name__ == "__main__":
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    policy = estep.train(MixtureSAC(), "Pendulum-v1", steps=steps, warmup_steps=min(1_000, steps // 2), eval_episodes=5)
    print(f"return {policy.evaluate(5).mean:.1f}, in {policy.run_dir}")
