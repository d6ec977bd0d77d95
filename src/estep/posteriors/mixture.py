"""The mixture posterior: several modes at once."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import ndtri

from estep.core.protocols import Distribution, Lam, Posterior
from estep.distributions.mixture import NormalMixture
from estep.distributions.noise import Noise, independent
from estep.nets import soft_bound
from estep.posteriors.gaussian import nearby


class Mixture(Posterior):
    """q(u; λ) = Σ_k w_k N(μ_k, diag σ_k²) with λ = (logits of w, μ, log σ), component by component.

    Every expectation draws each component: ask for at least as many draws as components.
    """

    action: int = eqx.field(static=True)
    components: int = eqx.field(static=True)
    noise: Noise = eqx.field(static=True, default=independent)
    sigma: float = eqx.field(static=True, default=0.5)
    """The standard deviation at which inference starts where the prior is not a Gaussian itself."""

    @property
    def parts(self) -> tuple[int, ...]:
        return self.components, self.scales, self.scales

    @property
    def scales(self) -> int:
        return self.components * self.action

    def start(self, prior: Distribution) -> Lam:
        """The prior itself if it is such a mixture; else equal components spread over a Gaussian: from one and the
        same place they would all climb alike."""
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
        return jnp.split(lam, (self.components, self.components + self.scales))


def spread(n: int, a: int) -> Float[np.ndarray, "n a"]:
    """n points that cover the standard normal in a dimensions: a Kronecker lattice, step ρ^-i with ρ^(a+1) = ρ + 1."""
    rho = 2.0
    for _ in range(64):
        rho = (1 + rho) ** (1 / (a + 1))
    lattice = 0.5 + np.arange(n)[:, None] * rho ** -np.arange(1.0, a + 1)
    points: Float[np.ndarray, "n a"] = ndtri(lattice % 1.0)
    centred: Float[np.ndarray, "n a"] = points - points.mean(0)
    return centred
