"""Parts of your own, each by its `module:function`: an inference optimiser, a prior, a family of posteriors, a critic,
and a network.

python own_part.py
estep compose --env Pendulum-v1 --inference own_part:slow_ascent --steps 5000
estep compose --env Pendulum-v1 --posterior own_part:logistic --likelihood own_part:huber --steps 5000
estep train sac --env Pendulum-v1 --features own_part:fourier
estep eval RUN --inference own_part:slow_ascent --allow-import
"""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp

import estep
from estep.core.batch import flatten
from estep.core.optim import adam
from estep.core.slots import Distribution, Likelihood, Posterior
from estep.core.types import Squash
from estep.inference.gradient import GradientAscent
from estep.likelihoods.targets import td0
from estep.priors.gaussian import FixedGaussian


def slow_ascent(networks, settings):
    """An inference optimiser: gradient ascent on V by many small steps, from where the networks start."""
    return GradientAscent(settings.iterations or 50, settings.samples or 4, adam(1e-3), start=networks.start())


def narrow(settings, spec, key):
    """A prior p(a|s): N(0, 0.3²) before squashing, in every state."""
    return FixedGaussian(jnp.zeros(spec.action_dim), jnp.full(spec.action_dim, 0.3))


class Logistic(Distribution):
    """A density with heavier tails than a Gaussian. Its log-ratio to the prior is estimated from its samples."""

    loc: jax.Array
    log_scale: jax.Array

    def sample(self, key):
        return self.loc + jnp.exp(self.log_scale) * jax.random.logistic(key, self.loc.shape)

    def log_prob(self, action):
        z = (action - self.loc) * jnp.exp(-self.log_scale)
        return -(z + 2 * jax.nn.softplus(-z) + self.log_scale).sum()

    def mode(self):
        return self.loc


class LogisticFamily(Posterior):
    """q(u; λ) with λ = (location, log scale)."""

    action: int = eqx.field(static=True)

    @property
    def block_sizes(self):
        return self.action, self.action

    def start(self, prior):
        return jnp.concatenate([prior.mode(), jnp.full(self.action, -1.0)])

    def __call__(self, lam):
        loc, log_scale = jnp.split(lam, 2)
        return Logistic(loc, jnp.clip(log_scale, -5.0, 1.0))


def logistic(settings, spec):
    """A family of posteriors q(a|s), of which inference finds the parameters λ."""
    return LogisticFamily(spec.action_dim)


class Huber(Likelihood):
    """Q̂ by one network, which is fitted to the soft value by the Huber loss: a few wild targets move it little."""

    net: eqx.nn.MLP
    squash: Squash
    gamma: float = eqx.field(static=True)

    def q(self, obs, action):
        return self.net(jnp.concatenate([obs, self.squash(action)]))[0]

    def __call__(self, problem, action, key):
        return self.q(problem.obs, action)

    def loss(self, batch, bootstrap, key):
        target = jax.lax.stop_gradient(td0(batch, bootstrap, key, self.gamma)).ravel()
        rows = flatten(batch)
        error = jnp.abs(jax.vmap(self.q)(rows.obs, rows.action) - target)
        return jnp.where(error < 1.0, 0.5 * error**2, error - 0.5).mean(), {"critic/error": error.mean()}


def huber(settings, spec, key):
    """A likelihood: action values, and how they are fitted."""
    width, depth = settings.hidden_sizes[0], len(settings.hidden_sizes)
    return Huber(eqx.nn.MLP(spec.obs_dim + spec.action_dim, 1, width, depth, key=key), spec.squash, settings.gamma)


class Fourier(eqx.Module):
    """Features of an observation: sines of learned projections, beside the observation itself."""

    projection: jax.Array

    def __call__(self, obs):
        return jnp.concatenate([obs, jnp.sin(obs @ self.projection)])


def fourier(obs_dim, key):
    """A network for every algorithm: fresh features for observations of this size."""
    return Fourier(jax.random.normal(key, (obs_dim, 32)))


if __name__ == "__main__":
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    small = {"steps": steps, "warmup_steps": min(1_000, steps // 2), "batch_size": 64, "eval_episodes": 5}
    parts = {"prior": narrow, "posterior": logistic, "likelihood": huber, "features": fourier}
    parts |= {"inference": slow_ascent, "start": "direct"}
    policy = estep.train(estep.Compose(hidden_sizes=(64, 64), iterations=2, **parts), "Pendulum-v1", **small)
    print(f"with parts of our own: {policy.evaluate(5).mean:.1f}, in {policy.run_dir}")
