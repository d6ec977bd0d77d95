"""Mixtures of Gaussians: the density, and the family, for posteriors of several modes."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import ndtri

from estep.core.slots import Distribution, Draws, Lam, Posterior
from estep.core.types import Action, Key, Scalar
from estep.errors import UsageError
from estep.families.gaussian import nearby
from estep.families.noise import Noise, independent, log_density
from estep.nets import soft_bound


class NormalMixture(Distribution):
    """Σ_k w_k N(μ_k, diag σ_k²) over the point u, w = softmax(logits).

    `draw` is stratified: component k gives n_k of the n samples, each of weight w_k / n_k. So an expectation is a
    weighted sum of reparameterised ones. It is differentiable in the logits too, and has no noise from the choice of a
    component.

    Raises:
        UsageError: fewer samples are asked for than there are components.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from estep import make_key
        >>> from estep.families.gaussian import Normal
        >>> from estep.families.mixture import NormalMixture
        >>> q = NormalMixture(jnp.zeros(2), mu=jnp.asarray([[-2.0], [2.0]]), log_sigma=jnp.full((2, 1), -9.0))
        >>> draws = jax.jit(lambda key: q.draw(key, 4, prior=Normal(jnp.zeros(1), jnp.zeros(1))))(make_key(0))
        >>> print(draws.action[:, 0].round(), draws.weight)
        [-2.  2. -2.  2.] [0.25 0.25 0.25 0.25]
    """

    logits: Float[Array, " k"]
    mu: Float[Array, "k a"]
    log_sigma: Float[Array, "k a"]
    noise: Noise = eqx.field(static=True, default=independent)

    def sample(self, key: Key) -> Action:
        k_component, k_noise = jax.random.split(key)
        k = jax.random.categorical(k_component, self.logits)
        return self.mu[k] + jnp.exp(self.log_sigma[k]) * jax.random.normal(k_noise, self.mu.shape[1:])

    def log_prob(self, action: Action) -> Scalar:
        return self._log_prob_of_noise(self._noise_of(action))

    def mode(self) -> Action:
        """The mean of a component with the highest density: the mode where components do not overlap."""
        return self.mu[jnp.argmax(jax.vmap(self.log_prob)(self.mu))]

    def draw(self, key: Key, n: int, prior: Distribution) -> Draws:
        components, size = self.mu.shape
        if n < components:
            raise UsageError(
                f"A mixture of {components} components cannot be drawn {n} times: each has to be.",
                f"Ask for {components} draws or more.",
            )
        owner = np.arange(n) % components  # antithetic pairs stay in one component if n is a multiple of 2k
        share = jnp.asarray(1.0 / np.bincount(owner)[owner], self.logits.dtype)
        weight = jax.nn.softmax(self.logits)[owner] * share
        noise = self.noise(key, n, size)
        action = self.mu[owner] + jnp.exp(self.log_sigma[owner]) * noise
        own = np.eye(components, dtype=bool)[owner][:, :, None]
        # a component's own noise is known: (u - μ)/σ recomputed loses its digits
        known = jnp.where(own, noise[:, None, :], jax.vmap(self._noise_of)(action))
        log_prob = jax.vmap(self._log_prob_of_noise)(known)
        return Draws(action, weight, log_prob - jax.vmap(prior.log_prob)(action))

    def _noise_of(self, action: Action) -> Float[Array, "k a"]:
        """The noise from which each component would give u."""
        return (action[None] - self.mu) * jnp.exp(-self.log_sigma)

    def _log_prob_of_noise(self, noise: Float[Array, "k a"]) -> Scalar:
        each = log_density(noise, self.log_sigma)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + each)


class Mixture(Posterior):
    """q(u; λ) = Σ_k w_k N(μ_k, diag σ_k²) with λ = (logits of w, μ, log σ), component by component.

    Every expectation samples each component: ask for at least as many samples as components.

    Example:
        >>> from estep.families.mixture import Mixture
        >>> Mixture(action=2, components=3).block_sizes
        (3, 6, 6)
    """

    action: int = eqx.field(static=True)
    components: int = eqx.field(static=True)
    noise: Noise = eqx.field(static=True, default=independent)
    sigma: float = eqx.field(static=True, default=0.5)
    """The standard deviation at which inference starts where the prior is not a Gaussian itself."""

    @property
    def block_sizes(self) -> tuple[int, ...]:
        return self.components, self.num_scales, self.num_scales

    @property
    def num_scales(self) -> int:
        return self.components * self.action

    def start(self, prior: Distribution) -> Lam:
        """The prior itself if it is such a mixture, else equal components spread over a Gaussian.

        From one common place the gradient would move them all alike.
        """
        if isinstance(prior, NormalMixture) and prior.mu.shape == (self.components, self.action):
            return jnp.concatenate([prior.logits, prior.mu.ravel(), prior.log_sigma.ravel()])
        mu, log_sigma = nearby(prior, self.action, self.sigma)
        points = jnp.asarray(spread(self.components, self.action), mu.dtype)
        places = mu[None] + jnp.exp(log_sigma)[None] * points
        return jnp.concatenate(
            [jnp.zeros(self.components, mu.dtype), places.ravel(), jnp.tile(log_sigma, self.components)]
        )

    def bound(self, lam: Lam, low: Float[Array, " k"], high: Float[Array, " k"]) -> Lam:
        logits, mu, log_sigma = self._split(lam)
        return jnp.concatenate([logits, mu, soft_bound(log_sigma, low, high)])

    def __call__(self, lam: Lam) -> Distribution:
        logits, mu, log_sigma = self._split(lam)
        shape = self.components, self.action
        return NormalMixture(logits, mu.reshape(shape), log_sigma.reshape(shape), self.noise)

    def _split(self, lam: Lam) -> list[Array]:
        return jnp.split(lam, (self.components, self.components + self.num_scales))


def spread(n: int, a: int) -> Float[np.ndarray, "n a"]:
    """n points that cover the standard normal in a dimensions, with mean 0.

    They are a Kronecker lattice: its step in dimension i is ρ^-i, with ρ^(a+1) = ρ + 1.

    Example:
        >>> from estep.families.mixture import spread
        >>> points = spread(5, 2)
        >>> points.shape, float(abs(points.mean(0)).max().round(6))
        ((5, 2), 0.0)
    """
    rho = 2.0
    for _ in range(64):
        rho = (1 + rho) ** (1 / (a + 1))
    lattice = 0.5 + np.arange(n)[:, None] * rho ** -np.arange(1.0, a + 1)
    points: Float[np.ndarray, "n a"] = ndtri(lattice % 1.0)
    centred: Float[np.ndarray, "n a"] = points - points.mean(0)
    return centred
